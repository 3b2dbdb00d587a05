"""The command line: a run from search to export, and its errors."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import cerebros_spark
from nas import HyperHyperModel
from nas.cli.main import main
from nas.cli.spark_files import read_table, read_vector_size
from nas.cli.table import detect_format
from tests.nas.small_searches import after_each_record, columns, table
from tests.nas.small_searches import search as build_search

SMALL = [
    *("--space", "minimum_levels=1", "--space", "maximum_levels=1"),
    *("--space", "maximum_units_per_level=2", "--space", "maximum_neurons_per_unit=3"),
    *("--space", "num_lateral_connection_tries_per_unit=1"),
    *("--space", "predecessor_level_connection_affinity_factor_first=1"),
    *("--space", "predecessor_level_connection_affinity_factor_main=1"),
]

PROBABILITIES = [f"kind__probability_{name}" for name in ("cheap", "dear", "fair")]


def towns(rows: int = 60) -> pd.DataFrame:
    """Return a table with numbers, strings, a validation mark and two labels."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 2)), columns=["a", "the b"])
    frame["town"] = rng.choice(["Lima", "Oslo", "Rome"], rows)
    frame["zip"] = np.where(np.arange(rows) % 4, "00003", "00010")
    frame["age"] = np.where(np.arange(rows) % 5, "30", "NA")
    frame["y"] = 3 * frame["a"] + (frame["town"] == "Rome")
    frame["kind"] = np.select([frame["y"] < -1, frame["y"] < 1], ["cheap", "fair"], "dear")
    frame["late"] = np.arange(rows) % 3 == 0
    frame["text"] = [f"row {row}" for row in range(rows)]
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory, spark) -> Path:
    folder = tmp_path_factory.mktemp("command")
    towns().to_csv(folder / "towns.csv", index=False, sep=";", encoding="utf-8-sig")
    return folder


def search(folder: Path, *more: str) -> list[str]:
    return [
        *(
            "search",
            str(folder / "towns.csv"),
            "--features",
            "a,the b",
            "--features",
            "town,zip,age",
        ),
        *("--label", "kind", "--head", "classification", "--validation", "late"),
        *("--max-trials", "2", "--epochs", "1", "--seed", "3", "--metric", "accuracy"),
        *("--metric", "f1_score", "--workers", "1"),
        *("--store", str(folder / "store"), *SMALL, *more),
    ]


@pytest.fixture(scope="module")
def interrupted(folder) -> str:
    """A classification, interrupted when the first of two trials had ended."""

    def stop(kinds: list[str]) -> None:
        if kinds.count("end") == 1:
            raise KeyboardInterrupt

    said = io.StringIO()
    with after_each_record(stop), contextlib.redirect_stderr(said):
        assert main(search(folder)) == 130
    assert "interrupted; the best so far is trial-000" in said.getvalue()
    assert f"  cerebros-spark resume {folder / 'store' / 'runs' / 'towns'}\n" in said.getvalue()
    shutil.copytree(folder / "store", folder / "interrupted")
    return str(folder / "interrupted" / "runs" / "towns")


@pytest.fixture(scope="module")
def run(folder, interrupted) -> str:
    """The same run, resumed without its table."""
    (folder / "towns.csv").rename(folder / "away.csv")
    assert main(["resume", str(folder / "store" / "runs" / "towns")]) == 0
    (folder / "away.csv").rename(folder / "towns.csv")
    return str(folder / "store" / "runs" / "towns")


@pytest.fixture(scope="module")
def exported(run, folder) -> Path:
    assert main(["export", run, "--output", str(folder / "models" / "towns.keras")]) == 0
    return folder / "models" / "towns.keras"


def run_failing(capsys, arguments: list[str], code: int = 2) -> str:
    """Run a command that fails with a code, and return its standard error."""
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return err


def test_the_same_command_gives_the_same_result(run, folder, capsys, caplog):
    journal = Path(run, "journal.jsonl").read_bytes()
    assert main(search(folder)) == 0
    assert "the run 'towns' was finished on" in caplog.text
    out = capsys.readouterr().out
    assert "best trial: trial-000" in out
    assert f"cerebros-spark report {run}" in out
    assert Path(run, "journal.jsonl").read_bytes() == journal
    assert "accuracy" in Path(run, "command.json").read_text()


def test_a_small_file_needs_no_spark(folder, tmp_path, capsys):
    local = ["--backend", "local"]
    store = ["--store", str(tmp_path / "store")]
    assert main(["inspect", str(folder / "towns.csv"), "--label", "kind", *local]) == 0
    assert "kind" in capsys.readouterr().out
    assert main([*search(folder), *store, *local]) == 0
    run = str(tmp_path / "store" / "runs" / "towns")
    assert '"backend": "local"' in Path(run, "command.json").read_text()
    assert main(["resume", run]) == 0
    assert "is finished: this is its result" in capsys.readouterr().err
    assert main(["resume", run, "--max-trials", "3"]) == 0
    assert "trial-0002" in capsys.readouterr().out
    error = run_failing(capsys, ["resume", run, "--max-trials", "2"])
    assert "--max-trials was 3 and is now 2" in error
    frames = []
    for backend, name in (("local", "out.csv"), ("spark", "folder")):
        output = ["--output", str(tmp_path / name), "--output-format", "csv"]
        data = str(folder / "towns.csv")
        assert main(["predict", run, data, *output, "--backend", backend]) == 0
        files = [tmp_path / name] if backend == "local" else (tmp_path / name).glob("*.csv")
        frames.append(pd.concat(pd.read_csv(file, dtype=str) for file in files))
    one, other = (frame.sort_values("text").reset_index(drop=True) for frame in frames)
    assert list(one.columns) == list(other.columns)
    same = [name for name in one if name not in PROBABILITIES]
    pd.testing.assert_frame_equal(one[same], other[same])
    values = [frame[PROBABILITIES].astype(float) for frame in (one, other)]
    np.testing.assert_allclose(*values, atol=1e-6)
    np.testing.assert_allclose(values[0].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("option", "column"), [("group_column", "zip"), ("time_column", "a")])
def test_rows_are_split_by_groups_or_time(folder, tmp_path, option, column, monkeypatch):
    bound = []
    bind = HyperHyperModel.resource_bind

    def record(self, **given):
        bound.append(given)
        bind(self, **given)

    monkeypatch.setattr(HyperHyperModel, "resource_bind", record)
    arguments = ["search", str(folder / "towns.csv"), "--label", "y", "--head", "regression"]
    arguments += ["--max-trials", "1", "--epochs", "1", "--workers", "1", "--backend", "local"]
    store = str(tmp_path / "store")
    given = ["--" + option.replace("_", "-"), column]
    assert main([*arguments, *SMALL, "--store", store, *given]) == 0
    assert bound[0][option] == column
    assert (column in bound[0]["feature_columns"]) == (option == "time_column")
    assert f'"{option}": "{column}"' in Path(store, "runs", "towns", "command.json").read_text()


def test_runs_are_listed_and_shown(run, interrupted, folder, capsys):
    assert main(["list", str(folder / "store")]) == 0
    assert "towns  finished, 2 trials, val_loss" in capsys.readouterr().out
    assert main(["show", interrupted, "--all"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("towns: not finished")
    assert "trial-0000" in out
    error = run_failing(capsys, ["list", str(folder / "nowhere")])
    assert "there are no runs" in error
    assert not (folder / "nowhere").exists()


def test_a_run_is_evaluated_on_a_table_with_the_label(run, folder, capsys):
    frame = towns(40)
    frame.loc[::10, "kind"] = None
    frame.to_csv(folder / "test.csv", index=False, sep=";")
    outputs = []
    for backend in ("local", "spark"):
        data = str(folder / "test.csv")
        assert main(["evaluate", run, data, "--backend", backend]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert "36 rows; 4 have no label and are left out" in outputs[0]
    for name in ("accuracy", "AUC", "log loss", "F1"):
        assert name in outputs[0]
    frame["kind"] = frame["kind"].fillna("")
    frame.to_parquet(folder / "test.parquet", index=False)
    for backend in ("local", "spark"):
        assert main(["evaluate", run, str(folder / "test.parquet"), "--backend", backend]) == 0
        assert capsys.readouterr().out == outputs[0]
    frame.drop(columns="kind").to_csv(folder / "unlabeled.csv", index=False, sep=";")
    error = run_failing(capsys, ["evaluate", run, str(folder / "unlabeled.csv")])
    assert "there is no column 'kind', but it was the label of the search" in error


def test_what_cannot_be_read_without_spark_is_refused(folder, capsys):
    data = str(folder)
    error = run_failing(capsys, ["inspect", data, "--backend", "local"])
    assert "without Spark" in error
    arguments = ["inspect", data, "--backend", "local", "--master", "local[1]"]
    assert "takes no --master" in run_failing(capsys, arguments)


def test_another_option_for_the_same_run_is_refused(run, folder, capsys):
    error = run_failing(capsys, search(folder, "--batch-size", "16"))
    assert "cannot resume the run 'towns': --batch-size was not given and is now 16" in error
    assert "--overwrite" in error


def test_predictions_are_those_of_the_exported_network(run, folder, exported, spark, caplog):
    new = towns(20).drop(columns=["y", "kind", "late", "text"]).astype(str)
    new.loc[3, "town"] = "Bonn"  # unknown to the search
    new.loc[4, "a"] = "?"
    new[["zip", "a", "the b", "age", "town"]].to_csv(folder / "new.csv", index=False, sep="\t")
    output = str(folder / "predictions.parquet")
    assert main(["predict", run, str(folder / "new.csv"), "--output", output]) == 0
    assert "was finished on" not in caplog.text, "the command needs a finished run"
    predictions = spark.read.parquet(output).toPandas()
    assert list(predictions.columns)[5:] == [*PROBABILITIES, "kind__class"]
    pd.testing.assert_frame_equal(predictions[new.columns.to_list()], new)

    known = json.loads(exported.with_suffix(".json").read_text())
    numbers = {"a": "number", "the b": "number", "age": "integer"}
    assert known["features"] == {**numbers, "town": "string", "zip": "string"}
    assert known["classes"] == {"kind": ["cheap", "dear", "fair"]}
    # Keras alone has no F1 of class indices.
    assert b"OneHotLabels" not in zipfile.ZipFile(exported).read("config.json")
    x = {name: new[[name]].to_numpy(dtype=object) for name in known["features"]}
    for name in numbers:
        x[name] = pd.to_numeric(new[name], errors="coerce").to_numpy()[:, None]
    inputs = {
        name: tf.constant(values, tf.float64 if name in numbers else tf.string)
        for name, values in x.items()
    }
    outputs = keras.models.load_model(exported).predict(inputs, verbose=0)
    np.testing.assert_allclose(predictions[PROBABILITIES], outputs, rtol=1e-4, atol=1e-6)
    assert [known["classes"]["kind"][place] for place in outputs.argmax(axis=1)] == list(
        predictions["kind__class"]
    )


def test_predictions_as_csv_for_a_table_with_labels(run, folder, capsys):
    arguments = [
        "predict",
        run,
        str(folder / "towns.csv"),
        "--output",
        str(folder / "predictions.csv"),
    ]
    assert main(arguments) == 0
    parts = [
        pd.read_csv(part, dtype=str) for part in (folder / "predictions.csv").glob("part-*.csv")
    ]
    predictions = pd.concat(parts).sort_values("text")
    assert list(predictions["kind"]) == list(towns().sort_values("text")["kind"])
    assert set(predictions["zip"]) == {"00003", "00010"}
    assert set(predictions["late"]) == {"True", "False"}
    assert predictions[PROBABILITIES].notna().all(axis=None)
    assert set(predictions["kind__class"]) <= {"cheap", "dear", "fair"}
    assert "exists; give --overwrite" in run_failing(capsys, arguments)
    assert main([*arguments, "--overwrite"]) == 0


def test_new_values_of_another_type_are_refused(run, folder, tmp_path, capsys):
    new = towns(5).astype(str)
    new.loc[3, "a"] = "about 2"
    new.to_csv(tmp_path / "new.csv", index=False)
    arguments = ["predict", run, str(tmp_path / "new.csv"), "--output", str(tmp_path / "output")]
    assert "'a' holds 'about 2', but held numbers" in run_failing(capsys, arguments)
    assert not (tmp_path / "output").exists()


def test_what_a_search_would_make_of_a_table(folder, tmp_path, capsys):
    assert main(["inspect", str(folder / "towns.csv"), "--label", "kind"]) == 0
    out = capsys.readouterr().out
    assert "60 rows" in out
    assert "town" in out
    assert "label kind" in out
    (tmp_path / "table.csv").write_text("1,x,007\n2,y,8\n3,x,9\n")
    arguments = ["inspect", str(tmp_path / "table.csv"), "--no-header", "--label", "_c1"]
    assert main([*arguments, "--column-type", "_c2=numeric"]) == 0
    assert "3 rows" in capsys.readouterr().out
    error = run_failing(capsys, [*arguments, "--column-type", "_c2=number"])
    assert "the kind must be one of numeric" in error


def test_a_run_needs_nothing_but_its_store(run, folder, tmp_path, capsys):
    shutil.copytree(folder / "store", tmp_path / "moved")
    moved = str(tmp_path / "moved" / "runs" / "towns")
    for command in (["resume", moved], ["audit", moved], ["audit", moved, "--records"]):
        assert main(command) == 0
    out = capsys.readouterr().out
    assert "best trial: trial-000" in out
    assert "2 trials, 4 units, 0 faults" in out
    assert "epoch 0 train partition 0" in out


def test_the_page_of_a_run(run, tmp_path, capsys):
    pytest.importorskip("nas.reporting")
    page = tmp_path / "report.html"
    assert main(["report", run, "--output", str(page)]) == 0
    assert "the run 'towns' is finished" in capsys.readouterr().out
    assert "trial-0000" in page.read_text()
    error = run_failing(capsys, ["report", run, "--output", str(tmp_path / "report.txt")])
    assert "a report is an HTML file" in error


def test_commands_on_an_unfinished_run(interrupted, tmp_path, capsys):
    error = run_failing(
        capsys, ["predict", interrupted, "new.csv", "--output", str(tmp_path / "predictions")]
    )
    assert f"cerebros-spark resume {interrupted}" in error
    assert main(["export", interrupted, "--output", str(tmp_path / "so_far.keras")]) == 0
    assert "the best so far" in capsys.readouterr().out
    assert main(["audit", interrupted]) == 0
    assert keras.models.load_model(tmp_path / "so_far.keras").output_shape == (None, 3)


def test_libsvm_is_read_with_as_many_features_as_before(spark, tmp_path):
    (tmp_path / "old.svm").write_text("1 1:0.5 3:2\n0 2:1\n")
    (tmp_path / "new.svm").write_text("0 1:0.5\n")
    assert detect_format("old.svm") == "libsvm"
    size = read_vector_size(read_table(spark, str(tmp_path / "old.svm"), "libsvm").df, "libsvm")
    new = read_table(spark, str(tmp_path / "new.svm"), "libsvm", size)
    assert new.df.first().features.size == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hed", "regression"], "No such option"),
        (["--head", "regression"], "but must hold numbers; give --head classification"),
        (["--column-type", "town=numeric"], "but must hold numbers\n"),
        (["--column-type", "town"], "--column-type takes NAME=KIND"),
        (["--separator", "tab"], "--separator must be one character"),
        (["--features", "nothing"], "there is no column 'nothing', but --features names it"),
        (["--label", "kind", "--label", "y"], "takes one --label"),
        (["--features", "kind"], "'kind' is a feature, and a label"),
        (["--validation", "2"], "validation must be a fraction"),
        (["--group-column", "age"], "each split the rows: use one of them"),
        (["--validation", "0.2", "--time-column", "at"], "no column 'at', but --time-column names"),
        (["--tuner-option", "kappa=1"], "the tuner 'auto' has no option 'kappa'"),
        (["--tuner-option", "kappa"], "--tuner-option takes NAME=VALUE"),
        (["--space", "maximum_level=1"], "use one of: maximum_levels, minimum_levels"),
        (["--objective", "val_nonsense"], "the direction of the objective 'val_nonsense'"),
        (["--metric", "nonsense"], "'nonsense' is not a metric of Keras"),
        (["--name", "a/b"], "project_name must be letters"),
        (["--format", "parquet"], "as parquet: "),
        (["--conf", "nothing"], "--conf takes NAME=VALUE"),
    ],
)
def test_a_search_with_wrong_options_is_refused(folder, tmp_path, capsys, more, message):
    arguments = search(folder, "--store", str(tmp_path / "store"), *more)
    if more[0] == "--label":
        at = arguments.index("--label")
        del arguments[at : at + 2]
    assert message in run_failing(capsys, arguments)
    assert not list(tmp_path.glob("store/runs/*/journal.jsonl"))


def test_fractions_are_no_classes(folder, tmp_path, capsys):
    arguments = search(folder, "--store", str(tmp_path))
    arguments[arguments.index("kind")] = "y"
    assert "is no class" in run_failing(capsys, arguments)


def test_a_missing_table_is_refused(tmp_path, capsys):
    arguments = ["search", str(tmp_path / "gone.csv"), "--label", "y", "--head", "regression"]
    failure = run_failing(capsys, [*arguments, "--store", str(tmp_path)])
    assert "gone.csv': there is no such file or folder" in failure


def test_too_many_workers_fail_the_search(folder, tmp_path, capsys):
    arguments = search(folder, "--store", str(tmp_path), "--workers", "9")
    assert "9" in run_failing(capsys, arguments, 1)


@pytest.mark.parametrize("command", ["resume", "report", "audit", "export", "predict"])
def test_a_missing_run_is_refused(command, tmp_path, capsys):
    more = ["new.csv", "--output", "predictions"] if command == "predict" else []
    for place in (str(tmp_path / "runs" / "gone"), str(tmp_path)):
        error = run_failing(capsys, [command, place, *more])
        assert "there is no run" in error or "STORE/runs/NAME" in error
    assert not list(tmp_path.iterdir())


def test_a_run_of_a_script_is_not_resumed(tmp_path, capsys):
    script_search = build_search(tmp_path, max_trials=1, bind=columns())
    script_search.fit(table(), epochs=1, verbose=0)
    run = str(tmp_path / "runs" / "small")
    assert "was started by a script" in run_failing(capsys, ["resume", run])
    assert main(["export", run, "--output", str(tmp_path / "model.keras")]) == 0
    error = run_failing(capsys, ["export", run, "--output", str(tmp_path / "model.h5")])
    assert "the suffix .keras" in error


def test_an_inconsistent_journal_sets_the_exit_code(run, folder, tmp_path, capsys):
    shutil.copytree(folder / "store", tmp_path / "store")
    journal = tmp_path / "store" / "runs" / "towns" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:4] + lines[5:]))
    assert "journal" in run_failing(capsys, ["audit", str(journal.parent)], 1)


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys\nfrom nas.cli.main import main\n"
        "assert main(['search', '--help']) == 0 and main(['--version']) == 0\n"
        "print([n for n in ('tensorflow', 'pyspark', 'pandas') if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Examples:" in done.stdout
    assert done.stdout.splitlines()[-2:] == [
        f"cerebros-spark, version {cerebros_spark.__version__}",
        "[]",
    ]
