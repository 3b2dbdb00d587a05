"""Reports of a run: one page from the store alone, at any time."""

from __future__ import annotations

import base64
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import keras
import numpy as np
import pytest

from cerebros_spark import LocalStore
from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.runs.journal import journal_key, read
from nas import HyperHyperModel
from nas.reporting import write_report
from nas.reporting.__main__ import main
from nas.reporting.run_view import Hop, read_run
from nas.reporting.timeline import build_time_axis, compute_load, compute_usage
from tests.nas.small_searches import columns, table

pytestmark = pytest.mark.usefixtures("simulated_training")

EVIL = "<script>alert('a$b$')</script>"


def build(hp):
    """Build a network; one of the three kinds fails."""
    kind = hp.Choice(EVIL, ["<b>", "plain", "broken"])
    rate = hp.Choice("rate", [0.1, 0.001])
    if kind == "broken":
        raise ValueError("<img src=x onerror=alert(1)> is broken")
    with hp.conditional_scope(EVIL, ["plain"]):
        hp.Int("only_plain", 1, 1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    search = HyperHyperModel(hypermodel=build, project_name="small", seed=0)
    search.resource_bind(store=LocalStore(folder), **columns())
    search.tuner_bind("grid", max_trials=6)
    return folder, search.fit(table(), epochs=2, verbose=0)


@pytest.fixture(scope="module")
def page(searched, tmp_path_factory):
    folder, _ = searched
    return write_page(folder, tmp_path_factory.mktemp("page") / "report.html")


class Page(HTMLParser):
    """A page as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}  # by the id of the element around it, if it has one
        self.source = text
        self._open: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self._open.append(dict(attrs).get("id"))

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        for name in self._open:
            self.texts[name or ""] = self.texts.get(name or "", "") + data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for each, attributes in self.tags if each == tag]

    def drawings(self) -> list[str]:
        """Return the decoded SVG of every image."""
        head = "data:image/svg+xml;base64,"
        sources = [each["src"] or "" for each in self.of("img")]
        assert all(source.startswith(head) for source in sources)
        return [base64.b64decode(source.removeprefix(head)).decode() for source in sources]


def write_page(folder: Path, path: Path) -> Page:
    write_report(LocalStore(folder), "small", path)
    return Page(path.read_text(encoding="utf-8"))


def cut(folder: Path, to: Path, lines: int) -> Path:
    """Copy a run with so many lines of its journal."""
    shutil.copytree(folder, to)
    journal = to / journal_key("small")
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    return to


def test_the_page_of_a_finished_run_is_complete(searched, tmp_path):
    _, result = searched
    result.report(tmp_path / "new" / "report.html")
    page = Page((tmp_path / "new" / "report.html").read_text(encoding="utf-8"))
    board = result.leaderboard()
    rows = [row.split() for row in page.texts["leaderboard"].strip().splitlines()[1:]]
    assert "Finished: 6 trials" in page.texts[""]
    order = re.findall(r"trial-\d{4}", page.texts["leaderboard"])
    assert order == board["trial"].tolist()
    assert f"{board['score'][0]:.6g}" in page.texts[""]
    assert len(rows) >= 6
    assert "60 training rows and 30 validation rows" in page.texts[""]
    assert "a, b, c" in page.texts[""]
    # Curves, timeline, hyperparameters and the best trial's curves, for both widths; the network.
    drawings = page.drawings()
    assert len(drawings) == 2 * 4 + 1
    assert result.draw() == drawings[-1]
    assert all(attributes["alt"] for attributes in page.of("img"))
    timelines = [text for text in drawings if "worker 0 · " in text]
    assert len(timelines) == 1
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_the_store_gives_the_same_run_as_the_search(searched):
    folder, result = searched
    run = read_run(LocalStore(folder), "small")
    assert run.finished
    assert [trial.trial_id for trial in run.ranked] == result.leaderboard()["trial"].tolist()
    assert run.trials == tuple(result.trials)
    plain = [trial for trial in run.trials if trial.active_values[EVIL] == "plain"]
    other = [trial for trial in run.trials if trial.active_values[EVIL] != "plain"]
    assert all("only_plain" in trial.active_values for trial in plain)
    assert not any("only_plain" in trial.active_values for trial in other)


def test_failed_trials_are_listed_with_their_errors(page):
    assert page.texts["leaderboard"].count("failed") == 2
    assert page.texts[""].count("is broken") >= 2
    assert len(page.of("details")) == 2


def test_names_given_by_users_are_never_markup(page):
    assert not page.of("script")
    assert not page.of("b")
    assert not [each for each in page.of("img") if each["src"] == "x"]
    assert EVIL in page.texts["values"]
    for text in page.drawings():
        kinds = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
        assert "script" not in kinds
    assert any("&lt;script&gt;alert('a$b$')" in text for text in page.drawings())


def test_the_page_loads_nothing(page):
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "background"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:"))
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"@import|url\(", page.source)
    for drawing in page.drawings():
        assert not re.search(r"@import|url\((?!#)", drawing)
        assert not re.search(r"href=\"(?!#|data:)", drawing)


def test_the_code_on_the_page_loads_the_best_network(searched, page):
    _, result = searched
    namespace: dict = {}
    exec(page.texts["code"], namespace)
    for loaded, kept in zip(namespace["model"].weights, result.best_model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(loaded), np.asarray(kept))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_an_unfinished_run_has_a_page(searched, tmp_path, share):
    folder, _ = searched
    lines = len(read(LocalStore(folder), "small"))
    left = cut(folder, tmp_path / "cut", 1 + int(share * (lines - 1)))
    page = write_page(left, tmp_path / "report.html")
    assert "Not finished" in page.texts[""]
    run = read_run(LocalStore(left), "small")
    assert not run.finished
    assert len(run.trials) == len(re.findall(r"trial-\d{4}", page.texts.get("leaderboard", "")))
    assert ("No trial has a score yet" in page.texts[""]) == (run.best is None)
    units = [r for r in read(LocalStore(left), "small") if r["kind"] == "unit"]
    assert sum(each.hops for each in compute_usage(run)) == len(units)


def test_the_command_writes_pages_until_the_end(searched, tmp_path, capsys, monkeypatch):
    folder, _ = searched
    left = cut(folder, tmp_path / "cut", 10)
    out = tmp_path / "report.html"

    def ends(seconds):
        assert seconds == 5
        assert "Not finished" in out.read_text(encoding="utf-8")
        shutil.copy(folder / journal_key("small"), left / journal_key("small"))

    monkeypatch.setattr("nas.reporting.__main__.sleep", ends)
    main([str(left / "runs" / "small"), str(out), "--every", "5"])
    assert "Finished: 6 trials" in out.read_text(encoding="utf-8")
    assert capsys.readouterr().out.endswith("the run 'small' is finished\n")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]


def test_errors_of_writing_and_reading(searched, tmp_path):
    folder, result = searched
    with pytest.raises(ArgumentError, match=r"such as 'report.html', but got '.*report'"):
        result.report(tmp_path / "report")
    with pytest.raises(StoreError):
        write_report(LocalStore(folder), "other", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


# The time axis --------------------------------------------------------------------------


def hop(worker, began, seconds, session=0):
    return Hop("trial-0000", 0, True, worker, began, seconds, 0.0, session)


def test_the_time_between_sessions_is_left_out():
    axis = build_time_axis([hop(0, 100, 2), hop(1, 101, 3), hop(0, 9000, 5, session=1)])
    assert [at for at, _ in axis.hops] == [0, 1, 4]
    assert axis.borders == (4,)
    assert axis.length == 9


def test_usage_and_load_of_workers(searched):
    folder, _ = searched
    run = read_run(LocalStore(folder), "small")
    hops = (hop(0, 100, 4), hop(0, 106, 2), hop(1, 101, 1), hop(1, 110, 1, session=2))
    usage = compute_usage(type(run)(**{**vars(run), "hops": hops, "lost_workers": {1: 2}}))
    assert [each.busy for each in usage] == [6, 2]
    assert [each.share for each in usage] == [6 / 9, 2 / 9]
    assert [each.longest_gap for each in usage] == [2, 6]
    assert [each.times_lost for each in usage] == [0, 2]
    load = compute_load(build_time_axis(hops), 2, 9)
    assert load[0].tolist() == pytest.approx([1, 1, 1, 1, 0, 0, 1, 1, 0])
    assert load[1].tolist() == pytest.approx([0, 1, 0, 0, 0, 0, 0, 0, 1])
