"""The documents name only what exists, and the command that runs their code finds faults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import _documents
import check_docs
import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    path.name
    for path in sorted((ROOT / "scripts").glob("[!_]*.py"))
    if "ArgumentParser" in path.read_text()
]


def test_documents_name_nothing_that_is_not_there():
    read = _documents.documents()
    assert len(read) >= 10
    assert [fault for document in read for fault in _documents.faults(document)] == []


def test_documents_give_scripts_no_options_that_they_do_not_have():
    assert list(check_docs.option_faults(_documents.documents())) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_say_what_they_are_for(script):
    assert "usage:" in check_docs.help_of(ROOT / "scripts" / script)


DOCUMENT = """\
<!-- given: x = 1 -->
```python
y = x + 1
```

```sh
python -c 'open("made", "w")'
```

```python
open('made').close()
assert y == 3, y
```

<!-- not run: so -->
```sh
false
```

```sh
false
```
"""


@pytest.fixture
def document(tmp_path, monkeypatch):
    """Make a document in a temporary root."""
    monkeypatch.setattr(_documents, "ROOT", tmp_path)
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "here.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\n"
        "p.add_argument('--known')\np.parse_args()\n"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text("def test_it(): ...\n")

    def made(text: str) -> _documents.Document:
        (tmp_path / "README.md").write_text(f"# Head of `it`, all\n\n{text}\n")
        return _documents.documents([tmp_path / "README.md"])[0]

    return made


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[there](scripts/here.py) [head](#head-of-it-all) [else](https://nowhere.example)", None),
        ("[x](gone.md)", "the link 'gone.md' leads nowhere"),
        ("![x](gone.svg)", "the link 'gone.svg' leads nowhere"),
        ("[x](#gone)", "there is no such heading"),
        ("`scripts/here.py` `runs/NAME/x.py` `scripts/benchmarks/*.py`", None),
        ("`scripts/gone.py`", "there is no file 'scripts/gone.py'"),
        ("| a |\n| --- |\n| `nas/gone.py` |", "there is no file 'nas/gone.py'"),
        ("`test_one.py::test_it` `tests/test_one.py::test_it`", None),
        ("`test_one.py::test_gone`", "there is no test 'test_one.py::test_gone'"),
        ("`test_gone.py`", "there is no file 'test_gone.py'"),
        ("`nas.HyperHyperModel` `nas.HyperHyperModel.fit(...)`", None),
        ("`nas.gone`", "there is no name 'nas.gone'"),
        ("```\nls\n```", "the block is ''"),
        ("```sh\npython scripts/gone.py  # so\n```", "there is no file 'scripts/gone.py'"),
    ],
)
def test_what_is_not_there_is_named_with_its_line(document, text, fault):
    faults_found = list(_documents.faults(document(text)))
    if fault is None:
        assert faults_found == []
    else:
        assert len(faults_found) == 1
        assert faults_found[0].startswith("README.md:3: ") or "|" in text
        assert fault in faults_found[0]


def test_an_option_that_a_script_does_not_have(document):
    text = "`scripts/here.py --known 1`\n\n```sh\npython scripts/here.py \\\n    --gone 2\n```"
    assert list(check_docs.option_faults([document(text)])) == [
        "README.md:5: scripts/here.py has no option --gone"
    ]


def test_notes_are_for_the_block_below_them(document):
    note = "<!-- not run: so -->"
    python = "```python\n1\n```"
    blocks = list(
        document(
            f"{note}\n{python}\n\n{note}\n\nText.\n\n{python}\n\n<!-- given:\nx = 1\n-->\n{python}"
        ).blocks
    )
    assert [(block.reason, block.given) for block in blocks] == [
        ("so", ""),
        ("", ""),
        ("", "x = 1"),
    ]


def test_blocks_are_run_in_order_and_faults_are_reported(tmp_path):
    """In a separate process: the documents' code may do anything."""
    code = (
        "import pathlib, _documents\n"
        f"_documents.ROOT = pathlib.Path({str(tmp_path)!r})\n"
        "from _doc_runs import run_document\n"
        "document = _documents.documents([_documents.ROOT / 'README.md'])[0]\n"
        "print([(b.line, fault.splitlines()[-1:]) for b, fault, _ in run_document(document)])\n"
    )
    (tmp_path / "README.md").write_text(DOCUMENT)
    path = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    results = [(2, []), (6, []), (10, ["AssertionError: 2"]), (16, [])]
    results.append((20, ["RuntimeError: false ended with 1"]))
    assert done.stdout.splitlines()[-1] == str(results)
