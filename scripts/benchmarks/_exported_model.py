"""Load an exported model and predict with Keras and TensorFlow alone, in a process of its own.

Usage: ``python -I _exported_model.py FOLDER``. The folder holds ``model.keras``, the SavedModel
``served``, and the columns of new rows in ``rows.npz``. Writes ``predicted.npz`` there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

_BATCH = 4096


def main(folder: Path) -> None:
    """Predict with both forms of the model."""
    with np.load(folder / "rows.npz", allow_pickle=True) as file:
        rows = {name: file[name] for name in file.files}
    model = keras.models.load_model(folder / "model.keras")
    serve = tf.saved_model.load(str(folder / "served")).signatures["serving_default"]
    signature = serve.structured_input_signature[1]
    missing = [name for name in rows if name not in signature]
    if missing:
        sys.exit(f"the signature has no input for the columns {missing}")

    def predict_served(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        tensors = {
            name: tf.reshape(tf.constant(values, signature[name].dtype), (len(values), -1))
            for name, values in batch.items()
        }
        (output,) = serve(**tensors).values()
        return output.numpy()

    keras_alone = predict(lambda batch: np.asarray(model(batch)), rows)
    served = predict(predict_served, rows)
    ours = [name for name in sys.modules if name.partition(".")[0] in ("nas", "cerebros_spark")]
    if ours:
        sys.exit(f"loading the model has imported {ours}")
    np.savez(folder / "predicted.npz", keras=keras_alone, served=served)


def predict(
    call: Callable[[Mapping[str, np.ndarray]], np.ndarray], rows: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Predict in batches."""
    total = len(next(iter(rows.values())))
    parts = []
    for start in range(0, total, _BATCH):
        batch = {name: values[start : start + _BATCH] for name, values in rows.items()}
        parts.append(call(batch))
    return np.concatenate(parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
