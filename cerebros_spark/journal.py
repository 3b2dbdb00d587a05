"""Command ``python -m cerebros_spark.journal RUN``: check a run's journal."""

from cerebros_spark.runs.audit import main

if __name__ == "__main__":
    main()
