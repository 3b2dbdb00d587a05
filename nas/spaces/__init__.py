"""Search spaces, which build compiled Keras models from hyperparameter values.

The packages are ``cerebros`` (randomly wired networks of small Dense units), ``tabular`` (families
of networks for tables), ``autokeras`` (graphs of blocks) and ``residual_mlp`` (residual
perceptrons). ``user_space`` wraps custom builders, and ``fixed_model`` a single model.
"""
