"""One trial's data: its proposal, its state while it runs, its record, the table of all."""
