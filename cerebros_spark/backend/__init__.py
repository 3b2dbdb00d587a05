"""Where workers come from: threads of this process, or tasks of a Spark application."""
