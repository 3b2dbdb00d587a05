"""Chart styles: trial colors, axis scales and conversion to image URLs."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from nas.drawing.svg import isolated_style, to_svg
from nas.reporting.run_view import RunView

# The colors of Okabe and Ito, which are distinct in every color vision, and two more.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a4c93", "#444444")
_GRAYS = ("#b8bec7", "#ced3da", "#a3abb6")
INK = "#22262b"
PALE = "#6b7280"
_SETTINGS = {
    "font.size": 10,
    # A dollar sign in a name must not start a formula.
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
_WIDE_SCALE = 10  # minimum ratio of largest to smallest value for a logarithmic axis


@dataclass(frozen=True)
class Form:
    """Size and layout of a chart for one screen type: wide screens or phones."""

    name: str
    width: float  # in inches
    columns: int  # number of small charts side by side
    narrow: bool = False


FORMS = (Form("wide", 12.0, 4), Form("narrow", 4.5, 2, narrow=True))


def assign_colors(run: RunView) -> dict[str, str]:
    """Return each trial's color by name: distinct for the best, a shade of gray for the rest."""
    names = [trial.trial_id for trial in run.ranked]
    colors = dict(zip(names, _COLORS, strict=False))
    return {name: colors.get(name, _GRAYS[i % len(_GRAYS)]) for i, name in enumerate(names)}


def count_colored(run: RunView) -> int:
    """Return the number of trials that have a distinct color."""
    return min(len(run.trials), len(_COLORS))


def has_wide_range(values: Sequence[float]) -> bool:
    """Return whether values need a logarithmic axis: all positive, and max/min at least 10."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) >= _WIDE_SCALE


def set_plain_numbers(axis: Any) -> None:
    """Format an axis's tick labels as plain numbers such as 0.01, without exponents or offsets."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.5g}"))
    axis.set_minor_formatter(NullFormatter())


def set_logarithmic(axis: Any) -> None:
    """Make an axis logarithmic, with some tick labels between the powers of ten."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if axis.axis_name == "y" else (1, 3)))
    set_plain_numbers(axis)


def set_epochs(axes: Any, label: str = "epoch") -> None:
    """Label the x-axis with ``label``, and restrict its ticks to integers."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def to_data_url(svg: str) -> str:
    """Convert SVG source to a data URL for an image.

    In an image, the SVG's element ids cannot collide with those in the page.
    """
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def render_forms(draw: Any, *arguments: Any) -> dict[str, str]:
    """Render a chart for each screen type; return image URLs by ``"wide"`` and ``"narrow"``.

    ``draw`` is called with a :class:`Form` and ``arguments``, and returns a matplotlib figure.
    """
    with isolated_style(**_SETTINGS):
        return {form.name: to_data_url(to_svg(draw(form, *arguments))) for form in FORMS}
