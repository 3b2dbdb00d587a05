"""Where workers come from: threads and processes here, or a Spark cluster."""
