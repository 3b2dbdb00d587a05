"""A layer whose training raises, in a module that workers can import."""

import keras


@keras.saving.register_keras_serializable(package="stuck_layers")
class Stubborn(keras.layers.Layer):
    """Builds anywhere; raises as soon as it is trained."""

    def call(self, inputs: object, training: bool = False) -> object:
        if training:
            raise RuntimeError("this layer will not be trained")
        return inputs
