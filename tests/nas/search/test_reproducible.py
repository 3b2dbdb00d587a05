from __future__ import annotations

import json
import subprocess
import sys

import numpy as np

from cerebros_spark import LocalBackend
from cerebros_spark.runs.journal import read
from tests.nas.small_searches import FEATURES, search, small_space, table
from tests.simulated_keras import EAGER, keras_trained_by

# One epoch is not worth tracing.
eagerly = keras_trained_by(EAGER)


def states(hypermodel) -> dict[tuple[str, int], str]:
    """Digests of every committed state of the last run, by trial and visit."""
    store = hypermodel._resources.store
    (run,) = {key.split("/")[1] for key in store.list("runs")}
    records = read(store, run)
    digests = {(r["trial"], 0): r["state"]["sha256"] for r in records if r["kind"] == "trial"}
    for record in records:
        if record["kind"] == "unit" and record["state"]:
            unit = record["unit"]
            digests[unit["trial_id"], unit["visit"] + 1] = record["state"]["sha256"]
    return digests


def test_a_reproducible_search_repeats_whatever_the_threads_do(tmp_path):
    frame = table()
    seen = []
    for attempt in range(2):
        hypermodel = search(
            tmp_path / str(attempt),
            max_trials=3,
            space=small_space(regularization=("batch_normalization", "dropout")),
            bind={"backend": LocalBackend(num_workers=2)},
        )
        result = hypermodel.fit(frame[FEATURES], frame["y"], epochs=2, verbose=0, reproducible=True)
        board = result.leaderboard().drop(columns="seconds").to_dict("records")
        seen.append((json.dumps(board), states(hypermodel)))
    assert seen[1] == seen[0]


@eagerly
def test_random_operations_need_no_seed_after_a_reproducible_search(tmp_path):
    import tensorflow as tf

    frame = table()
    search(tmp_path, max_trials=1).fit(
        frame[FEATURES], frame["y"], epochs=1, verbose=0, reproducible=True
    )
    assert np.isfinite(tf.random.normal((2,)).numpy()).all()


@eagerly
def test_the_users_random_generator_is_left_alone(tmp_path):
    import random

    frame = table()
    random.seed(5)
    expected = random.random()
    random.seed(5)
    search(tmp_path, max_trials=1).fit(frame[FEATURES], frame["y"], epochs=1, verbose=0)
    assert random.random() == expected


@eagerly
def test_without_a_seed_the_data_is_still_found_again(tmp_path):
    frame = table()
    for _ in range(2):
        search(tmp_path, max_trials=1, seed=None).fit(
            frame[FEATURES], frame["y"], epochs=1, verbose=0
        )
    store = search(tmp_path)._resources.store
    assert len({key.split("/")[1] for key in store.list("data")}) == 1


def test_lines_are_shown_where_logging_is_not_configured(tmp_path):
    code = (
        "import sys\n"
        "from tests.nas.small_searches import *\n"
        "from tests.simulated_keras import SIMULATED, base\n"
        "base.register('keras', SIMULATED)\n"
        "frame = table()\n"
        "for verbose in (0, 1):\n"
        "    search(f'{sys.argv[1]}/{verbose}', max_trials=1).fit(\n"
        "        frame[FEATURES], frame['y'], epochs=1, verbose=verbose)\n"
        "    print('then', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    silent, shown, _ = done.stderr.split("then\n")
    assert "trial-0000 completed: val_loss" not in silent
    assert "trial-0000 completed: val_loss" in shown
    assert done.stdout == ""
