"""Other front ends: scikit-learn, SimpleCerebrosRandomSearch, Spark ML."""
