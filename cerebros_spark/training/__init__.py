"""Training: the only room that knows Keras and TensorFlow."""
