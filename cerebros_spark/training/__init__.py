"""Training of models; the only folder of the engine that imports Keras and TensorFlow.

``base`` has the protocols of trainers and programs and the registry of trainers. ``keras`` trains
one Keras model, ``fused`` many Cerebros networks in one compiled program.
"""
