"""What identifies a user's code, so that a run is resumed with the same."""
