"""Command ``python -m cerebros_spark.replay RUN``: train trials again and compare them."""

from cerebros_spark.engine.replay import main

if __name__ == "__main__":
    main()
