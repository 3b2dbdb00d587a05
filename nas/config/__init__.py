"""What was asked for, checked, and what it resumes."""
