"""Forward and backward passes of padded networks, with gradients written by hand.

There are two variants: folded networks concatenate and normalize what they read, so repeated
inputs fold into one weight; merged networks add it up or use dropout.
"""
