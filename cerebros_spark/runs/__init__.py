"""What a run leaves in its store: journal, artifacts, worker configuration."""
