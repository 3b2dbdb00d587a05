"""Data as users pass it: columns, labels, heads and weights, checked and converted.

Values are converted without loss, or an error names the column and the reason.
"""
