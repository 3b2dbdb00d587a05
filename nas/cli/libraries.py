"""Import of the large libraries by commands, once their arguments have been checked."""

from __future__ import annotations

from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow


def load_libraries() -> None:
    """Import TensorFlow, Keras and KerasTuner, without what only users of these packages need.

    KerasTuner uses scikit-learn and SciPy for its own Bayesian oracle alone, which no command
    offers.
    """
    load_tensorflow(owns_process=True, others=("keras_tuner",))
