"""Other interfaces to a search: scikit-learn, Spark ML and the original Cerebros."""
