"""Forward and backward passes of padded networks, with gradients written by hand.

There are two variants. The units of folded networks concatenate their sources, so all copies of a
feature fold into one weight. The units of merged networks add their sources, or use dropout.
"""
