"""Expressions that the project avoids in code and documents; CONTRIBUTING has the rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]

# Expression, as a regular expression between word boundaries -> what to write instead.
AVOIDED = {
    r"(go|goes|going|gone|went) on with": "resume",
    r"recall(s|ed|ing)": "resume, replay",
    r"(try|tries|tried|trying) again": "retry",
    r"may pass": "transient error",
    r"told(?! apart)": "report, record, notify",
    r"hears?|heard": "receive",
    r"let(s|ting)? go": "evict",
    r"forgotten": "evict",
    r"beside the training": "prefetch, during training",
    r"whole numbers?": "integer",
    r"texts": "strings",
    r"of (one|your|my)('s)? own": "custom",
    r"Keras' own": "built-in",
    r"lies|is laid|are laid": "is stored",
    r"stands(?! (in )?for)": "is stored, is",
    r"(come|comes|came) to (its|their|the|an) end": "finished",
    r"newcomers?": "session",
    r"who sits": "session",
    r"incarnations?": "session",
    r"watchers?": "observer",
    r"lookouts?": "observer, callback",
    r"who looks on|looks on": "observer",
    r"anew": "again, from scratch",
    r"none the worse": "unaffected",
    r"left aside": "ignored",
    r"is asked for": "search configuration",
    r"who|nobody|whoever|somebody": "the machine or process that is meant",
    r"hand(s|ed|ing)? over": "pass",
    r"desks?|couriers?|workshops?|ledgers?": "session, I/O thread, build queue, table",
    r"(?<!model )hopper": "Scheduler",
    r"colours?|behaviours?|licences?|neighbours?|honours?|centred|labelled|grey": (
        "American spelling"
    ),
}
_PATTERN = re.compile("|".join(rf"(?<!\w)({each})(?!\w)" for each in AVOIDED), re.I)


def sources() -> list[Path]:
    """Return the files of product, scripts, examples and documents."""
    folders = ("cerebros_spark", "nas", "scripts", "examples", "docs", "profile")
    found = [path for name in folders for path in (ROOT / name).rglob("*.*")]
    found += ROOT.glob("*.md")
    return sorted(path for path in found if path.suffix in (".py", ".md", ".html", ".sh"))


def avoided(path: Path) -> list[str]:
    """Return line and expression of each avoided expression in a file."""
    name = str(path.relative_to(ROOT))
    lines = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = re.sub(r"\btest_\w+", "", line)  # names of tests say what they test
        lines += [f"{name}:{number}: {match.group()}" for match in _PATTERN.finditer(line)]
    return lines


@pytest.mark.parametrize("folder", sorted({path.relative_to(ROOT).parts[0] for path in sources()}))
def test_expressions_that_the_project_avoids_are_absent(folder):
    paths = [path for path in sources() if path.relative_to(ROOT).parts[0] == folder]
    assert [found for path in paths for found in avoided(path)] == []
