"""Import of the large libraries, which commands defer until they have checked their arguments."""

from __future__ import annotations

from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow


def load_libraries() -> None:
    """Import TensorFlow, Keras and KerasTuner without optional packages that no command needs.

    For example, KerasTuner uses scikit-learn and SciPy only for its built-in Bayesian oracle, which
    no command offers.
    """
    load_tensorflow(owns_process=True, others=("keras_tuner",))
