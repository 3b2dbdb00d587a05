"""What the server of ``tests.fresh_process`` imports."""

from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

load_tensorflow(owns_process=True)

import nas.hyperhypermodel  # noqa: E402, F401
