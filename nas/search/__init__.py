"""The loop of a search: propose, build, submit and record trials."""
