"""Documents in Markdown: their blocks, links and names, and the notes above their blocks."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cerebros_spark", "nas")
# Paths below these folders must exist; `runs/NAME` is the user's.
_FOLDERS = ("nas", "cerebros_spark", "scripts", "tests", "docs", "examples", "profile", ".ci")
# Files that documents may name without their folder.
_BARE = re.compile(r"(test_|chaos)\w*\.py(::\w+)?")
_NOTE = re.compile(r"<!--\s*(not run|given):\s*(.*?)\s*-->", re.DOTALL)
_LANGUAGES = ("python", "sh", "text")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        document: Its document, relative to the root.
        line: Its first line.
        language: Its language.
        text: Its content.
        given: Python that sets up what it uses; from the comment `<!-- given: … -->`.
        reason: Why it is not run; from the comment `<!-- not run: reason -->`.
    """

    document: Path
    line: int
    language: str
    text: str
    given: str = ""
    reason: str = ""

    @property
    def place(self) -> str:
        """Document and line."""
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Document:
    """A parsed Markdown document.

    Attributes:
        path: Its path, relative to the root.
        tokens: Its tokens.
    """

    path: Path
    tokens: tuple[Token, ...]

    @property
    def inline(self) -> Iterator[tuple[int, Token]]:
        """Line and token of each link, image and code span."""
        for token in self.tokens:
            for child in token.children or ():
                yield (token.map or [0])[0] + 1, child

    @property
    def blocks(self) -> Iterator[Block]:
        """The fenced blocks."""
        notes: dict[str, str] = {}
        for token in self.tokens:
            if token.type == "html_block":
                notes.update({name: text for name, text in _NOTE.findall(token.content)})
            elif token.type == "fence":
                line = (token.map or [0])[0] + 1
                given, reason = notes.get("given", ""), notes.get("not run", "")
                yield Block(self.path, line, token.info.strip(), token.content, given, reason)
                notes = {}
            elif token.type in ("heading_open", "paragraph_open"):
                notes = {}  # a note counts for the block right below it

    @property
    def anchors(self) -> set[str]:
        """The anchors of its headings, as GitHub makes them."""
        heads = [self.tokens[i + 1] for i, t in enumerate(self.tokens) if t.type == "heading_open"]
        plain = (re.sub(r"[^\w\- ]", "", head.content.lower()) for head in heads)
        return {head.replace(" ", "-") for head in plain}


def documents(paths: Sequence[Path] = ()) -> list[Document]:
    """Return the documents at paths; README, CONTRIBUTING and all of docs by default."""
    files = paths or [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
    parser = MarkdownIt("commonmark").enable("table")
    return [
        Document(path.resolve().relative_to(ROOT), tuple(parser.parse(path.read_text())))
        for path in files
    ]


def faults(document: Document) -> Iterator[str]:
    """Yield broken links, names that do not exist, and blocks without a known language."""
    for line, token in document.inline:
        fault = None
        if token.type == "link_open":
            fault = _link_fault(document, str(token.attrs["href"]))
        elif token.type == "image":
            fault = _link_fault(document, str(token.attrs["src"]))
        elif token.type == "code_inline":
            fault = _name_fault(token.content)
        if fault is not None:
            yield f"{document.path}:{line}: {fault}"
    for block in document.blocks:
        yield from (f"{block.place}: {fault}" for fault in _block_faults(block))


def _block_faults(block: Block) -> Iterator[str]:
    if block.language not in _LANGUAGES:
        named = ", ".join(_LANGUAGES)
        yield f"the block is {block.language!r}, and not one of {named}"
    for words in commands(block):
        yield from (fault for word in words if (fault := _name_fault(word)) is not None)


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the commands of a shell block, each as its words."""
    if block.language != "sh":
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.sub(r"^\w+\$ ", "", line), comments=True)
        if words:
            yield words


def scripts_named(document: Document) -> Iterator[tuple[str, str, list[str]]]:
    """Yield place, script and options of each command that runs one of our scripts."""
    places = [(block.place, words) for block in document.blocks for words in commands(block)]
    for line, token in document.inline:
        if token.type == "code_inline" and token.content.startswith(("scripts/", "python ")):
            places.append((f"{document.path}:{line}", shlex.split(token.content)))
    for place, words in places:
        scripts = [word for word in words[:3] if re.fullmatch(r"scripts/\w+(\.py)?", word)]
        if scripts:
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            yield place, scripts[0], options


def _link_fault(document: Document, link: str) -> str | None:
    if re.match(r"[a-z]+:", link):
        return None  # an external link; not checked
    path, _, anchor = unquote(link).partition("#")
    target = (ROOT / document.path.parent / path).resolve() if path else ROOT / document.path
    if not target.exists():
        return f"the link {link!r} leads nowhere"
    if anchor and anchor not in documents([target])[0].anchors:
        return f"the link {link!r}: there is no such heading"
    return None


def _name_fault(text: str) -> str | None:
    path, _, test = text.partition("::")
    if re.fullmatch(r"[\w.-]+(/[\w.*-]+)*/?", path) and path.split("/")[0] in _FOLDERS:
        if "/" in path and "*" not in path and not (ROOT / path).exists():
            return f"there is no file {path!r}"
        return _test_fault([ROOT / path], test, text)
    if _BARE.fullmatch(text):
        files = [file for top in ("tests", "scripts") for file in ROOT.glob(f"{top}/**/{path}")]
        return _test_fault(files, test, text)
    if re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+(\(.*\))?", text):
        return _import_fault(text.partition("(")[0])
    return None


def _test_fault(files: Sequence[Path], test: str, text: str) -> str | None:
    if not files:
        return f"there is no file {text!r}"
    if test and not any(f"def {test}(" in file.read_text() for file in files):
        return f"there is no test {text!r}"
    return None


def _import_fault(name: str) -> str | None:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part, None)
        return None if value is not None else f"there is no name {name!r}"
    return f"there is no module {name!r}"
