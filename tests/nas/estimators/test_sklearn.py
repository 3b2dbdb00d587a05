from __future__ import annotations

import copy
import gc
import pickle
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from nas import CerebrosClassifier, CerebrosRegressor
from nas.estimators.sklearn import EXPECTED_FAILED_CHECKS
from tests.nas.small_searches import FEATURES, small_space, table

pytestmark = pytest.mark.usefixtures("eager_training")

NAMES = np.array(["low", "middle", "high"])


def tiny(**more):
    """Return the arguments of one small network that learns quickly."""
    space = small_space(learning_rate=(0.05,))
    small = {"max_trials": 1, "epochs": 2, "space": space, "num_workers": 1, "random_state": 0}
    return {**small, "ensemble_size": 1, **more}


def good(**more):
    """Return the arguments of one small network that learns well in few steps."""
    return tiny(epochs=5, space=small_space(learning_rate=(0.3,)), batch_size=None, **more)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return table(150)


@pytest.fixture(scope="module")
def classifier(frame):
    return CerebrosClassifier(**good()).fit(frame[FEATURES], NAMES[frame["three"]])


@pytest.fixture(scope="module")
def regressor(frame):
    return CerebrosRegressor(**tiny()).fit(frame[FEATURES].to_numpy(), frame["y"])


def test_classes_are_those_of_the_labels(classifier, frame):
    assert classifier.classes_.tolist() == ["high", "low", "middle"]
    predicted = classifier.predict(frame[FEATURES])
    assert set(predicted) <= set(NAMES)
    assert (predicted == NAMES[frame["three"]]).mean() > 0.6


def test_probabilities_are_in_the_order_of_classes(classifier, frame):
    predicted = classifier.predict_proba(frame[FEATURES])
    assert predicted.shape == (len(frame), 3)
    np.testing.assert_allclose(predicted.sum(axis=1), 1, rtol=1e-5)
    classes = classifier.classes_[predicted.argmax(axis=1)]
    np.testing.assert_array_equal(classes, classifier.predict(frame[FEATURES]))


def test_two_classes_have_two_probabilities(frame):
    estimator = CerebrosClassifier(**good()).fit(frame[FEATURES], frame["binary"] == 1)
    assert estimator.classes_.tolist() == [False, True]
    predicted = estimator.predict_proba(frame[FEATURES])
    np.testing.assert_allclose(predicted.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(estimator.predict(frame[FEATURES]), predicted[:, 1] > 0.5)
    assert estimator.score(frame[FEATURES], frame["binary"] == 1) > 0.7


def test_names_of_columns_are_kept_and_checked(classifier, frame):
    assert classifier.feature_names_in_.tolist() == FEATURES
    assert classifier.n_features_in_ == 3
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame[FEATURES].rename(columns={"a": "other"}))
    with pytest.raises(ValueError, match="2 features"):
        classifier.predict(frame[FEATURES[:2]].to_numpy())


def test_the_result_has_the_leaderboard_and_the_network(regressor, frame):
    assert regressor.result_.leaderboard()["status"].tolist() == ["completed"]
    x = frame[FEATURES].to_numpy("float32")
    expected = regressor.result_.best_model.predict(x, verbose=0)[:, 0]
    np.testing.assert_allclose(regressor.predict(x), expected, rtol=1e-6)


def test_several_numbers_a_row(frame, tmp_path):
    y = frame[["y", "a"]].to_numpy()
    estimator = CerebrosRegressor(**tiny(epochs=1, ensemble_size=2)).fit(frame[FEATURES], y)
    predicted = estimator.predict(frame[FEATURES])
    assert predicted.shape == y.shape
    # Each number is clipped to the range of its labels.
    assert (predicted >= y.min(axis=0) - 1e-5).all()
    assert (predicted <= y.max(axis=0) + 1e-5).all()
    estimator.result_.export_model().save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = {name: frame[name].to_numpy() for name in FEATURES}
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), predicted, rtol=1e-5)


def test_a_clone_fits_the_same_network(regressor, frame):
    cloned = clone(regressor)
    assert cloned.get_params()["epochs"] == 2
    with pytest.raises(NotFittedError):
        cloned.predict(frame[FEATURES].to_numpy())
    cloned.fit(frame[FEATURES].to_numpy(), frame["y"])
    x = frame[FEATURES].to_numpy()
    np.testing.assert_array_equal(cloned.predict(x), regressor.predict(x))


def test_a_copy_predicts_without_the_result(regressor, frame):
    x = frame[FEATURES].to_numpy()
    copied = copy.deepcopy(regressor)
    np.testing.assert_array_equal(copied.predict(x), regressor.predict(x))
    assert not hasattr(copied, "result_")


def test_parameters_of_the_search_can_be_set(frame, tmp_path):
    estimator = CerebrosRegressor(**tiny()).set_params(
        tuner="bayesian", tuner_options={"kappa": 1.0}, store=tmp_path, max_trials=2, epochs=1
    )
    estimator.fit(frame[FEATURES], frame["y"])
    assert len(estimator.result_.trials) == 2
    assert (tmp_path / "runs").is_dir()
    del estimator
    gc.collect()
    assert (tmp_path / "runs").is_dir()


def test_temporary_folders_are_deleted_with_the_result(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    estimator = CerebrosRegressor(**tiny(epochs=1)).fit(frame[FEATURES], frame["y"])
    folders = list(Path(tmp_path).iterdir())
    assert len(folders) == 1
    assert estimator.result_.get_model("trial-0000") is not None
    estimator.fit(frame[FEATURES], frame["y"])
    gc.collect()
    assert len(list(tmp_path.iterdir())) == 1
    del estimator
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="no-such"):
        CerebrosRegressor(**tiny(tuner="no-such")).fit(frame[FEATURES], frame["y"])
    assert list(tmp_path.iterdir()) == []


def test_sample_weights_change_the_network(frame):
    x, y = frame[FEATURES], frame["y"]
    plain = CerebrosRegressor(**tiny()).fit(x, y).predict(x)
    weighted = CerebrosRegressor(**tiny()).fit(x, y, sample_weight=np.arange(len(x)))
    assert not np.allclose(plain, weighted.predict(x))


@pytest.mark.slow
def test_in_a_pipeline_and_in_cross_validation(frame):
    estimator = make_pipeline(StandardScaler(), CerebrosClassifier(**good()))
    scores = cross_val_score(estimator, frame[FEATURES], frame["binary"], cv=2)
    assert scores.mean() > 0.6


def raw_table(rows: int = 300) -> tuple[pd.DataFrame, pd.Series]:
    """Return columns of every kind with missing values, and labels that depend on two of them."""
    rng = np.random.default_rng(1)
    hours = pd.to_timedelta(rng.integers(0, 9000, rows), "h")
    x = pd.DataFrame(
        {
            "user": [f"u-{i:04d}" for i in range(rows)],
            "amount": rng.normal(size=rows),
            "city": rng.choice(["Bern", "Lugano", "Sion"], rows),
            "size": pd.Categorical(rng.choice(["s", "m"], rows)),
            "since": pd.Timestamp("2024-01-01") + hours,
            "paid": rng.random(rows) > 0.5,
            "target": rng.integers(0, 5, rows),
        }
    )
    wins = (x["city"] == "Bern") | (x["amount"] > 1)
    x.loc[::7, "amount"] = np.nan
    x.loc[1::9, "city"] = None
    x.loc[2::11, "since"] = pd.NaT
    return x, pd.Series(np.where(wins, "yes", "no"), name="amount")


@pytest.fixture(scope="module")
def raw():
    return raw_table()


@pytest.fixture(scope="module")
def raw_classifier(raw):
    return CerebrosClassifier(**tiny(max_trials=2)).fit(*raw)


def test_a_raw_table_needs_no_preprocessing(raw_classifier, raw):
    x, y = raw
    assert raw_classifier.classes_.tolist() == ["no", "yes"]
    assert raw_classifier.result_.classes == ["no", "yes"]
    assert raw_classifier.n_features_in_ == 7
    assert raw_classifier.feature_names_in_.tolist() == list(x)
    assert set(raw_classifier.predict(x)) == {"no", "yes"}
    assert raw_classifier.score(x, y) > 0.7
    inputs = raw_classifier.export_model().input
    assert list(inputs) == ["amount", "city", "size", "since", "paid", "target"]


def test_new_rows_may_have_unseen_categories_missing_values_and_another_order(raw_classifier, raw):
    x, _ = raw
    expected = raw_classifier.predict_proba(x)
    reordered = x[list(x)[::-1]].set_axis(range(5, 305))
    np.testing.assert_array_equal(raw_classifier.predict_proba(reordered), expected)
    with pytest.warns(UserWarning, match="valid feature names"):
        by_position = raw_classifier.predict_proba(x.to_numpy())
    np.testing.assert_array_equal(by_position, expected)
    for changed in (
        x.assign(city="Paris"),
        x.assign(city=None, amount=None, since=None, paid=None, size=None, target=np.nan),
    ):
        assert np.isfinite(raw_classifier.predict_proba(changed)).all()


def test_groups_are_no_feature_and_new_rows_do_not_need_them(raw):
    x, y = raw
    with_groups = x.assign(patient=np.arange(len(x)) // 10)
    more = {"group_column": "patient", "column_types": {"patient": "categorical"}}
    estimator = CerebrosClassifier(**tiny(epochs=1, **more)).fit(with_groups, y)
    assert estimator.feature_names_in_.tolist() == list(x)
    expected = estimator.predict_proba(x)
    np.testing.assert_array_equal(estimator.predict_proba(with_groups), expected)
    arrow = pa.Table.from_pandas(x, preserve_index=False)
    np.testing.assert_array_equal(estimator.predict_proba(arrow), expected)
    with pytest.raises(ValueError, match="'patient' is not among the columns of X"):
        estimator.fit(x, y)
    with pytest.raises(ValueError, match="time_column is the name of a column of a DataFrame"):
        CerebrosClassifier(**tiny(time_column="since")).fit(x[["amount"]].to_numpy(), y)


def test_rows_that_differ_in_type_or_names_are_refused(raw_classifier, raw):
    x, _ = raw
    with pytest.raises(ValueError, match="'amount' has the type string, but held numbers"):
        raw_classifier.predict(x.assign(amount="much"))
    with pytest.raises(ValueError, match="now missing:\n- city"):
        raw_classifier.predict(x.drop(columns="city"))
    with pytest.raises(ValueError, match="unseen at fit time:\n- town"):
        raw_classifier.predict(x.assign(town="Bern"))
    with pytest.raises(ValueError, match="0 samples"):
        raw_classifier.predict(x[:0])


def test_a_pickled_classifier_scores_raw_tables(raw_classifier, raw):
    x, _ = raw
    loaded = pickle.loads(pickle.dumps(raw_classifier))
    np.testing.assert_array_equal(loaded.predict_proba(x), raw_classifier.predict_proba(x))
    assert list(loaded.export_model().input) == list(raw_classifier.export_model().input)


def test_regressions_of_raw_tables(raw):
    x, _ = raw
    y = 10 + x["target"] + (x["city"] == "Bern")
    kinds = {"target": "categorical", "paid": "ignore"}
    estimator = CerebrosRegressor(**tiny(epochs=4, column_types=kinds)).fit(x, y)
    assert estimator.score(x, y) > 0.3
    assert "paid" not in estimator.export_model().input
    assert clone(estimator).column_types == kinds


def test_missing_values_of_arrays(frame):
    x, y = frame[FEATURES].to_numpy(), frame["y"]
    holes = x.copy()
    holes[::5, 1] = np.nan
    estimator = CerebrosRegressor(**tiny(epochs=1)).fit(holes, y)
    assert not hasattr(estimator, "feature_names_in_")
    assert np.isfinite(estimator.predict(holes)).all()
    assert estimator.__sklearn_tags__().input_tags.allow_nan
    # Without missing values in fit, those of predict count as the median.
    estimator.fit(x, y)
    filled = np.where(np.isnan(holes), np.median(x, axis=0), x)
    np.testing.assert_allclose(estimator.predict(holes), estimator.predict(filled), rtol=1e-5)


@pytest.mark.slow
def test_raw_tables_in_a_pipeline_and_in_cross_validation(raw):
    estimator = make_pipeline("passthrough", CerebrosClassifier(**tiny()))
    assert cross_val_score(estimator, *raw, cv=2).mean() > 0.6


# One step of the smallest network.
QUICK = tiny(
    epochs=1,
    batch_size=512,
    space=small_space(maximum_units_per_level=1, maximum_neurons_per_unit=1),
)


# Of checks that differ only in the array, the strictest one is run: scikit-learn has them for plain
# arrays, read-only ones, and some for read-only ones of float32.
STRICTEST = {
    "check_classifiers_train": {"readonly_memmap": True, "X_dtype": "float32"},
    "check_regressors_train": {"readonly_memmap": True, "X_dtype": "float32"},
    "check_estimators_pickle": {"readonly_memmap": True},
}


def list_checks():
    """Return all checks of the classifier, and those of the regressor that are not shared."""
    for kind in (CerebrosClassifier, CerebrosRegressor):
        for estimator, check in estimator_checks_generator(
            kind(**QUICK), expected_failed_checks=EXPECTED_FAILED_CHECKS, mark="skip"
        ):
            name = getattr(check, "func", check).__name__
            if name in STRICTEST and check.keywords != STRICTEST[name]:
                continue
            if kind is CerebrosClassifier or "regress" in name or "supervised" in name:
                yield pytest.param(estimator, check, name, id=f"{kind.__name__}-{name}")


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "check", "name"), list_checks())
def test_checks_of_scikit_learn(estimator, check, name):
    if name.endswith("_train"):  # these need a good network
        estimator.set_params(**good())
    check(estimator)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["a", "b", None] * 10, r"y is missing \(None or NaN\) in 10 rows"),
        (["a", 1] * 15, "y holds classes of the types int, str: use one"),
        (["a", "b", ""] * 10, "y holds an empty string in 10 rows"),
    ],
)
def test_classes_that_cannot_be_sorted_are_refused(frame, classes, message):
    with pytest.raises(ValueError, match=message):
        CerebrosClassifier().fit(frame[FEATURES][:30], np.array(classes, dtype=object))


def test_strings_are_classes_unless_they_are_empty(frame):
    with pytest.raises(ValueError, match="y holds an empty string in 10 rows"):
        CerebrosClassifier().fit(frame[FEATURES][:30], np.array(["a", "b", ""] * 10))


def test_columns_whose_names_are_numbers_may_have_another_order():
    x = pd.DataFrame({0: ["u", "v", "w"] * 20, 1: ["w", "u", "v"] * 20})
    estimator = CerebrosClassifier(**tiny(epochs=1)).fit(x, x[0] == "u")
    expected = estimator.predict_proba(x)
    np.testing.assert_array_equal(estimator.predict_proba(x[[1, 0]]), expected)


def test_rows_weights_and_labels_are_matched_by_position(frame):
    x, y = frame[FEATURES], frame["binary"]
    weights = np.linspace(1, 2, len(y))
    forms = [(y, weights), (y.to_frame(), pd.Series(weights, index=range(len(y), 0, -1)))]
    predicted = [
        CerebrosClassifier(**tiny()).fit(x, labels, sample_weight=weight).predict_proba(x)
        for labels, weight in forms
    ]
    np.testing.assert_array_equal(*predicted)
