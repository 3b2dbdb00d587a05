"""Training; the only folder that imports Keras and TensorFlow."""
