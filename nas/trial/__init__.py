"""Trial data: proposals, objectives, running trials, records and the table of a search's trials."""
