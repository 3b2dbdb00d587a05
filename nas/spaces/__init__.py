"""Search spaces, which build compiled Keras models from hyperparameter values.

``cerebros`` contains randomly wired networks of small Dense units, ``autokeras`` graphs of blocks,
and ``residual_mlp`` residual perceptrons. Custom builders and single models are spaces too.
"""
