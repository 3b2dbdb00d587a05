"""Forward and backward passes of padded networks, with gradients written by hand.

There are two variants. In folded networks, units concatenate their sources, so the weights of all
copies of a feature add up to one weight. In merged networks, units add their sources or use
dropout, and merge the sources before they apply their kernel.
"""
