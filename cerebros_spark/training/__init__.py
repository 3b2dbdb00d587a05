"""Model training; the only subpackage of the engine that imports Keras and TensorFlow.

``base`` defines the trainer and program protocols and the trainer registry. ``keras`` trains single
Keras models, and ``fused`` trains many Cerebros networks in one compiled program.
"""
