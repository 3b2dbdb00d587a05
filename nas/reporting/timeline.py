"""Which worker was at which trial when: the timeline, and how busy each worker was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nas.reporting.run_view import Hop, RunView
from nas.reporting.style import Form, coloured

_MOST_BARS = 1500
_BINS = 240
_VALIDATION = 0.45  # opacity


@dataclass(frozen=True)
class Usage:
    """How a worker's time was spent.

    Attributes:
        worker: The worker.
        hops: Its finished units.
        busy: Seconds of work on rows.
        share: ``busy`` as a part of the time that the sessions took.
        around: Seconds around its units: fetching, setting, reading and writing states.
        longest_gap: The longest stretch of a session, in seconds, without work on rows.
        lost: How often it was lost.
    """

    worker: int
    hops: int
    busy: float
    share: float
    around: float
    longest_gap: float
    lost: int


@dataclass(frozen=True)
class Laid:
    """Hops on one axis of time: sessions one after the other, without what lies between them.

    Attributes:
        hops: The hops with where they begin on that axis, in seconds.
        borders: Where sessions begin, but for the first.
        length: Where the last one ends.
    """

    hops: tuple[tuple[float, Hop], ...]
    borders: tuple[float, ...]
    length: float


def laid_out(hops: Sequence[Hop]) -> Laid:
    """Puts hops on one axis of time."""
    placed: list[tuple[float, Hop]] = []
    borders: list[float] = []
    at = 0.0
    for session in sorted({hop.session for hop in hops}):
        own = [hop for hop in hops if hop.session == session]
        first = min(hop.began for hop in own)
        if placed:
            borders.append(at)
        placed += [(at + hop.began - first, hop) for hop in own]
        at += max(hop.began + hop.seconds for hop in own) - first
    return Laid(tuple(placed), tuple(borders), at)


def usage(run: RunView) -> list[Usage]:
    """How each worker's time was spent."""
    laid = laid_out(run.hops)
    told = []
    for worker in range(run.asked["partitions"]):
        own = [(at, hop) for at, hop in laid.hops if hop.worker == worker]
        busy = sum(hop.seconds for _, hop in own)
        told.append(
            Usage(
                worker=worker,
                hops=len(own),
                busy=busy,
                share=busy / laid.length if laid.length else 0.0,
                around=sum(hop.around for _, hop in own),
                longest_gap=_longest_gap(own, laid),
                lost=run.lost.get(worker, 0),
            )
        )
    return told


def _longest_gap(own: Sequence[tuple[float, Hop]], laid: Laid) -> float:
    edges = sorted([0.0, *laid.borders, laid.length])
    spans = sorted([(at, at + hop.seconds) for at, hop in own] + [(edge, edge) for edge in edges])
    longest, until = 0.0, 0.0
    for begins, ends in spans:
        longest = max(longest, begins - until)
        until = max(until, ends)
    return longest


def timeline(form: Form, run: RunView, colour: Mapping[str, str]) -> Figure:
    """A row for each worker, a bar for each hop; of very many hops how busy the worker was."""
    laid = laid_out(run.hops)
    workers = run.asked["partitions"]
    many = len(laid.hops) > _MOST_BARS
    row = 0.55 if workers <= 8 else 0.3
    height = row * workers + (0.9 if many else 1.3) + (0.5 if form.narrow else 0)
    figure = Figure(figsize=(form.width, height), layout="constrained")
    axes = figure.add_subplot()
    if many:
        _draw_shares(figure, axes, laid, workers)
    else:
        _draw_bars(form, axes, laid, colour)
        _draw_legend(form, figure, run, colour)
    for border in laid.borders:
        axes.axvline(border, color="#b00020", linestyle=(0, (4, 3)), linewidth=1.2, zorder=5)
    axes.set_xlim(0, max(laid.length, 1e-9))
    axes.set_ylim(workers - 0.5, -0.5)
    names = [f"{'w' if form.narrow else 'worker '}{each.worker} · {each.share:.0%}"
             for each in usage(run)]  # fmt: skip
    axes.set_yticks(range(workers), names)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("seconds of training" if form.narrow else "seconds since the first hop began")
    return figure


def _draw_bars(form: Form, axes: Any, laid: Laid, colour: Mapping[str, str]) -> None:
    for trains in (True, False):
        own = [(at, hop) for at, hop in laid.hops if hop.trains is trains]
        axes.barh(
            [hop.worker for _, hop in own],
            [hop.seconds for _, hop in own],
            left=[at for at, _ in own],
            height=0.72,
            color=[colour[hop.trial] for _, hop in own],
            alpha=1.0 if trains else _VALIDATION,
            edgecolor="white",
            linewidth=0.3,
        )
    least = laid.length * (0.05 if form.narrow else 0.02)
    for at, hop in laid.hops:
        if hop.trains and hop.seconds >= least:
            axes.text(
                at + hop.seconds / 2,
                hop.worker,
                hop.trial.rpartition("-")[2].lstrip("0") or "0",
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if _is_dark(colour[hop.trial]) else "black",
                clip_on=True,
            )


def _is_dark(colour: str) -> bool:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def _draw_legend(form: Form, figure: Figure, run: RunView, colour: Mapping[str, str]) -> None:
    visited = {hop.trial for hop in run.hops}
    best = [trial.trial_id for trial in run.ranked[: coloured(run)] if trial.trial_id in visited]
    patches = [Patch(color=colour[name], label=name) for name in best]
    others = [name for name in colour if name in visited and name not in best]
    if others:
        patches.append(Patch(color=colour[others[0]], label=f"{len(others)} others"))
    patches.append(Patch(color="#555555", alpha=_VALIDATION, label="pale: validation"))
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=3 if form.narrow else 10,
        fontsize=9,
        handlelength=1.0,
        columnspacing=1.2,
    )


def _draw_shares(figure: Figure, axes: Any, laid: Laid, workers: int) -> None:
    shares = busy_shares(laid, workers, _BINS)
    image = axes.imshow(
        shares,
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        vmin=0,
        vmax=1,
        extent=(0, laid.length, workers - 0.5, -0.5),
    )
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.5, 1], pad=0.01)
    bar.ax.set_yticklabels(["idle", "half", "busy"], fontsize=9)


def busy_shares(laid: Laid, workers: int, bins: int) -> np.ndarray:
    """How busy each worker was in each of so many equal stretches, of shape (workers, bins)."""
    step = max(laid.length, 1e-9) / bins
    shares = np.zeros((workers, bins))
    for at, hop in laid.hops:
        first, last = int(at / step), min(int((at + hop.seconds) / step), bins - 1)
        for each in range(first, last + 1):
            inside = min(at + hop.seconds, (each + 1) * step) - max(at, each * step)
            shares[hop.worker, each] += max(inside, 0.0) / step
    return shares.clip(0, 1)
