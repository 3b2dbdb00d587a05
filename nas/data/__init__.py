"""User data: columns, labels, heads and weights, checked and converted.

Values are converted without loss; otherwise an error names the column and the reason.
"""
