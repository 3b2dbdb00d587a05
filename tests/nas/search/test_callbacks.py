from __future__ import annotations

import threading

import keras
import keras_tuner
import numpy as np
import pytest
from keras import callbacks as kc

import nas.search.context
from cerebros_spark import LocalBackend, LocalStore
from cerebros_spark.core.errors import ArgumentError, SearchError, StoreError
from cerebros_spark.runs.artifacts import read_state
from cerebros_spark.runs.audit import audit
from cerebros_spark.runs.journal import read
from cerebros_spark.training.keras.checkpoint import StateVariables
from cerebros_spark.training.keras.serialization import deserialize_model
from nas import HyperHyperModel
from tests.nas.small_searches import FEATURES, columns, killed, search, table

# Callbacks run in the driver, so most of these searches need no training.
pytestmark = pytest.mark.usefixtures("simulated_training")

HUGE = 1e9  # no epoch is better than another by so much


@pytest.fixture(scope="module")
def frame():
    return table()


def fit(folder, frame, callbacks, *, trials=2, epochs=3, workers=1, **more):
    bind = columns(backend=LocalBackend(workers))
    hypermodel = search(folder, max_trials=trials, bind=bind, **more)
    return hypermodel.fit(frame, epochs=epochs, callbacks=callbacks, verbose=0)


class ClosedWell(kc.Callback):
    ends = 0

    def on_train_end(self, logs=None):
        type(self).ends += 1


class Adding(kc.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["val_added"] = float(epoch == 1)


def network(folder, trial) -> keras.Model:
    """A trial's network, as its best epoch left it."""
    model = deserialize_model(trial.program)
    StateVariables(model).write(read_state(LocalStore(folder), trial.state))
    return model


def answers(folder, trial="trial-0000"):
    records = read(LocalStore(folder), "small")
    return [r for r in records if r["kind"] == "answer" and r["trial"] == trial]


# What Keras has --------------------------------------------------------------------------


def test_early_stopping_ends_each_trial_by_itself(frame, tmp_path):
    stopping = kc.EarlyStopping("val_loss", patience=1, min_delta=HUGE, restore_best_weights=True)
    result = fit(tmp_path, frame, [stopping], epochs=5)
    assert result.leaderboard()["epochs"].tolist() == [2, 2]
    assert set(result.leaderboard()["status"]) == {"stopped"}
    best = result.best_trial
    assert best.score == min(best.history["val_loss"])
    assert stopping.best is None, "the user's own object was used"


def test_early_stopping_knows_which_direction_is_better(frame, tmp_path):
    bind = columns(evaluation_metric=keras.metrics.R2Score(name="fit"))
    hypermodel = search(tmp_path, max_trials=1, bind=bind)
    seen = []

    class Keeps(kc.EarlyStopping):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            seen.append((logs["val_fit"], self.best))

    hypermodel.fit(frame, epochs=4, callbacks=[Keeps("val_fit", patience=9)], verbose=0)
    assert [best for _, best in seen] == list(np.maximum.accumulate([value for value, _ in seen]))


def test_a_rate_is_reduced_on_a_plateau(frame, tmp_path):
    plateau = kc.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=HUGE)
    result = fit(tmp_path, frame, [plateau], epochs=4)
    for trial in result.trials:
        first = np.float32(trial.values["learning_rate"])
        # The first epoch sets the mark; each one after it is a plateau.
        expected = [first, first, first * 0.1, first * 0.01]
        np.testing.assert_allclose(trial.history["learning_rate"], expected, rtol=1e-5)
    assert [a["learning_rate"] is not None for a in answers(tmp_path)] == [False, True, True, False]


@pytest.mark.usefixtures("traced_training")
def test_a_scheduler_sets_the_rate_of_the_first_epoch_too(frame, tmp_path):
    rates = [0.3, 0.2, 0.1]
    result = fit(tmp_path, frame, [kc.LearningRateScheduler(lambda epoch: rates[epoch])])
    for trial in result.trials:
        np.testing.assert_allclose(trial.history["learning_rate"], rates, rtol=1e-6)
        rate = float(np.asarray(network(tmp_path, trial).optimizer.learning_rate))
        assert rate == pytest.approx(rates[trial.best_epoch])


@pytest.mark.parametrize("setter", [kc.ReduceLROnPlateau(), kc.LearningRateScheduler(float)])
def test_a_rate_that_a_schedule_sets_is_not_set_by_a_callback(setter, frame, tmp_path):
    def build(hp):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        falling = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
        model.compile(keras.optimizers.SGD(falling), "mse")
        return model

    hypermodel = HyperHyperModel(hypermodel=build, max_trials=1)
    hypermodel.resource_bind(store=LocalStore(tmp_path), **columns())
    with pytest.raises(ArgumentError, match=rf"{type(setter).__name__} .*'sgd' has a schedule"):
        hypermodel.fit(frame, epochs=2, callbacks=[setter], verbose=0)


def test_each_trial_has_separate_checkpoints(frame, tmp_path):
    path = tmp_path / "checkpoints" / "best.keras"
    result = fit(
        tmp_path / "store",
        frame,
        [
            kc.ModelCheckpoint(str(path), "val_loss", save_best_only=True),
            kc.CSVLogger(str(tmp_path / "logs" / "log.csv")),
        ],
    )
    rows = frame[FEATURES].to_numpy("float32")
    for trial in result.trials:
        saved = keras.models.load_model(path.parent / trial.trial_id / "best.keras")
        expected = network(tmp_path / "store", trial).predict(rows, verbose=0)
        np.testing.assert_array_equal(saved.predict(rows, verbose=0), expected)
        log = (tmp_path / "logs" / trial.trial_id / "log.csv").read_text().splitlines()
        assert len(log) == 1 + 3
        assert log[0].startswith("epoch,")


def test_a_loss_that_is_no_number_needs_no_callback(frame, tmp_path):
    result = fit(tmp_path, frame, [kc.TerminateOnNaN()], epochs=1)
    assert set(result.leaderboard()["status"]) == {"completed"}


@pytest.mark.usefixtures("traced_training")
def test_a_trial_that_diverges_late_keeps_its_good_epochs(frame, tmp_path):
    rates = kc.LearningRateScheduler(lambda epoch, rate: 1e-3 if epoch < 2 else 1e30)
    result = fit(tmp_path, frame, [rates, ClosedWell()], trials=1, epochs=5)
    trial = result.best_trial
    assert (trial.status.value, trial.finished_epochs) == ("stopped", 2)
    assert "no longer a finite number in training of epoch 3" in trial.error
    assert trial.score == min(trial.history["val_loss"])
    assert all(np.isfinite(w).all() for w in network(tmp_path, trial).get_weights())
    assert ClosedWell.ends == 1
    assert audit(read(LocalStore(tmp_path), "small")) == []


def test_what_another_callback_adds_may_be_monitored(frame, tmp_path):
    stopping = kc.EarlyStopping("val_added", mode="max", patience=1)
    result = fit(tmp_path, frame, [Adding(), stopping], trials=1, epochs=5)
    assert result.leaderboard()["epochs"].tolist() == [3]  # 0, 1, and from then on 0
    with pytest.raises(ArgumentError, match="EarlyStopping: it monitors 'val_added'"):
        fit(tmp_path / "early", frame, [stopping, Adding()])
    with pytest.raises(ArgumentError, match=r"val_added.*mode"):
        fit(tmp_path / "auto", frame, [Adding(), kc.EarlyStopping("val_added")])


def test_callbacks_count_on_where_a_trial_continues_another(frame, tmp_path):
    objective = keras_tuner.Objective("val_loss", "min")
    oracle = keras_tuner.oracles.HyperbandOracle(objective, max_epochs=3, factor=3, seed=0)
    hypermodel = search(tmp_path, bind=columns())
    hypermodel.tuner_bind(oracle)
    result = hypermodel.fit(frame, epochs=3, callbacks=[Watching()], verbose=0)
    seen = {
        trial.values["tuner/initial_epoch"]: answers(tmp_path, trial.trial_id)[-1]
        for trial in result.trials
    }
    known = {first: answer["callbacks"][0]["epochs"] for first, answer in seen.items()}
    assert known[1] == [1, 2]


# Custom callbacks ------------------------------------------------------------------------


class Watching(keras.callbacks.Callback):
    """Notes what it sees."""

    def __init__(self):
        super().__init__()
        self.epochs = []
        self.norms = np.zeros(0)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        norm = sum(float(np.abs(w).sum()) for w in self.model.get_weights())
        self.norms = np.append(self.norms, norm)


def test_a_callback_sees_the_weights_of_its_trial_wherever_they_were_trained(frame, tmp_path):
    result = fit(tmp_path, frame, Watching(), workers=2)
    for trial in result.trials:
        (known,) = answers(tmp_path, trial.trial_id)[-1]["callbacks"]
        assert known["epochs"] == [0, 1, 2]
        model = network(tmp_path, trial)
        norm = sum(float(np.abs(w).sum()) for w in model.get_weights())
        assert known["norms"]["array"][trial.best_epoch] == pytest.approx(norm, rel=1e-6)


@pytest.mark.usefixtures("traced_training")
def test_weights_that_a_callback_sets_are_trained_on(frame, tmp_path):
    class Zeroing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([0 * weight for weight in self.model.get_weights()])
            self.model.stop_training = epoch == 1

    result = fit(tmp_path, frame, [Zeroing()], trials=1)
    # With no weights at all a network of this kind answers zero, and its gradients but for the
    # last bias are zero, too.
    before, after = answers(tmp_path)
    assert before["state"] is not None
    assert before["learning_rate"] is None
    assert before["kept"] != before["state"]
    assert after["proceed"] is False
    assert result.leaderboard()["epochs"].tolist() == [2]


def test_a_callback_that_raises_fails_its_trial_alone(frame, tmp_path):
    lock, raised = threading.Lock(), []

    class Raising(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1 and not raised:
                raised.append(epoch)
                raise RuntimeError("out of coffee")

        def __deepcopy__(self, memo):
            with lock:  # what can't be copied is shared
                return type(self)()

    result = fit(tmp_path, frame, [Raising()], trials=3, workers=2)
    board = result.leaderboard().set_index("status")
    assert sorted(board.index) == ["completed", "completed", "failed"]
    assert board.loc["failed", "error"] == "RuntimeError: out of coffee"
    assert "on_epoch_end" in board.loc["failed", "traceback"]
    assert audit(read(LocalStore(tmp_path), "small")) == []
    again = fit(tmp_path, frame, [Raising()], trials=3, workers=2)
    assert again.leaderboard().equals(result.leaderboard())


@pytest.mark.parametrize("hook", ["on_train_begin", "on_epoch_begin", "on_train_end"])
def test_a_callback_that_raises_anywhere_is_reported(frame, tmp_path, hook):
    def fail(self, *args, **more):
        raise ValueError(f"{hook} went wrong")

    raising = type("Raising", (keras.callbacks.Callback,), {hook: fail})()
    with pytest.raises(SearchError, match=rf"all 2 trials failed[\s\S]*{hook} went wrong"):
        fit(tmp_path, frame, [raising], epochs=1)
    assert audit(read(LocalStore(tmp_path), "small")) == []


# Refused ---------------------------------------------------------------------------------


class PerBatch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


@pytest.mark.parametrize(
    ("callback", "match"),
    [
        (PerBatch(), r"PerBatch: it must be called for batches \(on_train_batch_end\)"),
        (kc.LambdaCallback(on_train_batch_end=print), "LambdaCallback: it must be called for"),
        (kc.ModelCheckpoint("x.keras", save_freq=10), "ModelCheckpoint: it must be called for"),
        (kc.TensorBoard("logs", histogram_freq=1), "TensorBoard has histogram_freq=1"),
        (kc.TensorBoard("logs", update_freq="batch"), "TensorBoard has update_freq=1"),
        (kc.TensorBoard("logs", profile_batch=2), "TensorBoard has profile_batch"),
        (type("Mine", (kc.TensorBoard,), {})("logs"), "Mine: it must be called for batches"),
        (
            kc.BackupAndRestore("there"),
            "the callback BackupAndRestore in a search.*overwrite=False",
        ),
        (kc.EarlyStopping("val_nothing"), "EarlyStopping: it monitors 'val_nothing'.*val_loss"),
        ("early", "must be keras.callbacks.Callback, but got 'early'"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_unusable_callbacks_are_refused_by_name(frame, tmp_path, callback, match):
    with pytest.raises(ArgumentError, match=match):
        fit(tmp_path, frame, [callback])
    assert LocalStore(tmp_path).list("runs") == []


def test_callbacks_that_cannot_be_copied_are_refused(frame, tmp_path):
    class Holding(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(ArgumentError, match="cannot copy the callback Holding for each trial"):
        fit(tmp_path, frame, [Holding()])


# Resumed runs ----------------------------------------------------------------------------


def several():
    """Callbacks that depend on what they saw before."""
    return [
        kc.EarlyStopping("val_loss", patience=2, min_delta=HUGE),
        kc.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=HUGE),
        Watching(),
    ]


def run(folder, frame, callbacks=None):
    hypermodel = search(folder, bind=columns(backend=LocalBackend(2)))
    chosen = several() if callbacks is None else callbacks
    return hypermodel.fit(frame, epochs=6, callbacks=chosen, verbose=0, reproducible=True)


@pytest.fixture(scope="module")
def whole(frame, tmp_path_factory):
    """A run with these callbacks that nothing disturbs, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, frame), folder


@pytest.mark.parametrize("answered", [1, 3])
def test_the_state_of_callbacks_is_restored_when_a_run_is_resumed(frame, tmp_path, whole, answered):
    whole, folder = whole
    with killed(lambda kinds: kinds.count("answer") == answered):
        run(tmp_path, frame)
    resumed = run(tmp_path, frame)
    assert [t.history for t in resumed.trials] == [t.history for t in whole.trials]
    assert [t.state.sha256 for t in resumed.trials] == [t.state.sha256 for t in whole.trials]
    assert [t.finished_epochs for t in resumed.trials] == [3, 3]
    for trial in whole.trials:
        last = [answers(each, trial.trial_id)[-1] for each in (folder, tmp_path)]
        assert last[0]["callbacks"] == last[1]["callbacks"]


def test_other_callbacks_are_named_when_a_run_is_resumed(frame, tmp_path):
    run(tmp_path, frame)
    other = [kc.EarlyStopping("val_loss", patience=3, min_delta=HUGE), *several()[1:]]
    with pytest.raises(ArgumentError, match="callbacks"):
        run(tmp_path, frame, other)


# What callbacks can do wrong ---------------------------------------------------------------


class Unwritable(keras.callbacks.Callback):
    def get_state(self):
        raise RuntimeError("no words for it")


def test_a_state_that_cannot_be_serialized_fails_only_its_trial(frame, tmp_path):
    with pytest.raises(SearchError, match=r"all 2 trials failed[\s\S]*no words for it"):
        fit(tmp_path, frame, [Unwritable()], epochs=1)
    assert audit(read(LocalStore(tmp_path), "small")) == []


class Keeping(keras.callbacks.Callback):
    """Keeps values of every kind, and the weights that its trial began with."""

    def on_train_begin(self, logs=None):
        self.best = (np.inf, -1)
        self.by_epoch = {}
        self.single = np.float32(0.1)
        self.odd = np.fft.fft([1.0, 2.0])
        self.first = sum(float(np.abs(w).sum()) for w in self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.best = min(self.best, (logs["val_loss"], epoch))
        self.by_epoch[epoch] = logs["val_loss"]
        self.single *= np.float32(1.1)
        now = sum(float(np.abs(w).sum()) for w in self.model.get_weights())
        logs["moved"] = now - self.first
        logs["single"] = float(self.single)


@pytest.fixture(scope="module")
def kept(frame, tmp_path_factory):
    """The histories of a run with that callback that nothing disturbs."""
    result = run(tmp_path_factory.mktemp("kept"), frame, [Keeping()])
    return [trial.history for trial in result.trials]


@pytest.mark.parametrize(("kind", "count"), [("epoch", 1), ("answer", 2)])
def test_values_of_every_kind_are_kept(frame, tmp_path, kept, kind, count):
    with killed(lambda kinds: kinds.count(kind) == count):
        run(tmp_path, frame, [Keeping()])
    resumed = run(tmp_path, frame, [Keeping()])
    assert [trial.history for trial in resumed.trials] == kept


def test_a_store_that_is_away_is_not_the_trials_fault(frame, tmp_path, monkeypatch):
    read_state, calls = nas.search.context.read_state, []

    def away(store, ref):
        calls.append(ref)
        if len(calls) == 3:
            raise StoreError("away for a minute")
        return read_state(store, ref)

    monkeypatch.setattr(nas.search.context, "read_state", away)
    with pytest.raises(StoreError, match="away for a minute"):
        run(tmp_path, frame, [Watching()])
    monkeypatch.setattr(nas.search.context, "read_state", read_state)
    result = run(tmp_path, frame, [Watching()])
    assert set(result.leaderboard()["status"]) == {"completed"}
