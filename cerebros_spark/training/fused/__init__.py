"""Trains many Cerebros networks in one compiled program.

A published-size network is hundreds of Keras operations of a few numbers each; what its training
takes is the calls, not the arithmetic. Here the networks of a group are padded to one shape, in
which a wiring is data, and a network is a loop over its units. The program is compiled once for a
shape, whatever networks come.

The rooms, in the order of the way:

- ``reading``: a program's JSON to a :class:`~.reading.Network`, or why it is none.
- ``shapes``: the padded :class:`~.shapes.Shape`, and where each weight of a network is in it.
- ``updates``: the optimizers' rules.
- ``states``: a state to a vector in that shape, and back.
- ``folding``: the copies of one source to one weight, exactly, with a gradient of its own.
- ``steps``: activations and normalization, each with its way back.
- ``units``: the hidden units, one after the other and back.
- ``forward``: the outputs, in training and in inference, and the weights' gradients.
- ``scoring``: losses and metrics.
- ``program``: a unit as one compiled call; states in and out.

HFTA (Wang et al., "Horizontally Fused Training Array", MLSys 2021) fuses trials of one and the
same network; here the networks differ.
"""
