"""Validation and conversion of user data: columns, labels, heads and weights.

Values are converted without loss; if that is impossible, an error names the column and the reason.
"""
