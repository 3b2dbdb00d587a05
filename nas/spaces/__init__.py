"""Search spaces: each makes a compiled Keras model from hyperparameter values.

``cerebros`` draws wired networks of small Dense units, ``autokeras`` builds graphs of blocks, and
``residual_mlp`` builds residual perceptrons. Custom builders and single models are spaces too.
"""
