"""Result of a search: its best networks, leaderboard, predictions and metrics."""
