"""Values and helpers that do no I/O: errors, types, events, seeds, retries and checks."""
