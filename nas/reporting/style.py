"""What the charts of a page have in common: colours of trials, scales, and the SVG itself."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nas.reporting.run_view import RunView

# Okabe and Ito's, which people of every colour vision tell apart, and two more.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a4c93", "#444444")
_OTHERS = ("#b8bec7", "#ced3da", "#a3abb6")
INK = "#22262b"
PALE = "#6b7280"
# Names are anybody's text: a dollar must not begin a formula.
_RC = {
    "svg.hashsalt": "cerebros",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa1ab",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "xtick.color": PALE,
    "ytick.color": PALE,
    "legend.frameon": False,
}
_WIDE_SCALE = 10  # largest over smallest value: from here on an axis is logarithmic


@dataclass(frozen=True)
class Form:
    """The form of a chart: one for wide screens, one for phones.

    Attributes:
        name: ``"wide"`` or ``"narrow"``.
        width: Its width in inches.
        columns: How many small charts stand side by side.
    """

    name: str
    width: float
    columns: int

    @property
    def narrow(self) -> bool:
        """Whether it is for phones."""
        return self.name == "narrow"


FORMS = (Form("wide", 12.0, 4), Form("narrow", 4.5, 2))


def style() -> Any:
    """The style of all charts, whatever the user's own, as a context."""
    plain = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    return matplotlib.rc_context({**plain, **_RC})


def colours(run: RunView) -> dict[str, str]:
    """A colour for each trial: one of its own for the best, shades of grey for the others."""
    names = [trial.trial_id for trial in run.ranked]
    own = dict(zip(names, _COLOURS, strict=False))
    return {name: own.get(name, _OTHERS[i % len(_OTHERS)]) for i, name in enumerate(names)}


def coloured(run: RunView) -> int:
    """How many trials have a colour of their own."""
    return min(len(run.trials), len(_COLOURS))


def is_wide(values: Sequence[float]) -> bool:
    """Whether values want a logarithmic axis."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) >= _WIDE_SCALE


def plain_numbers(axis: Any) -> None:
    """Has an axis say numbers such as 0.01 and 300, not powers of ten or differences."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.5g}"))
    axis.set_minor_formatter(NullFormatter())


def logarithmic(axis: Any) -> None:
    """Makes an axis logarithmic, with some numbers between the powers of ten."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if axis.axis_name == "y" else (1, 3)))
    plain_numbers(axis)


def shortened(text: str, most: int) -> str:
    """A text of so many characters at most, its middle left out."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"


def svg_bytes(figure: Figure) -> bytes:
    """A figure as SVG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)
    return buffer.getvalue()


def data_url(svg: bytes) -> str:
    """An SVG as what an image's source may be: it has no names in common with the page."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def in_both_forms(draw: Any, *arguments: Any) -> Mapping[str, str]:
    """A chart for wide screens and for phones, by the form's name, as image sources."""
    with style():
        return {form.name: data_url(svg_bytes(draw(form, *arguments))) for form in FORMS}
