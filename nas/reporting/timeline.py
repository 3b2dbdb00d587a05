"""Timeline of each worker's training and validation units (hops), and worker load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nas.reporting.run_view import Hop, RunView
from nas.reporting.style import Form, count_colored

_MOST_BARS = 1500
_BINS = 240
_VALIDATION = 0.45  # opacity of validation units


@dataclass(frozen=True)
class Usage:
    """Breakdown of a worker's time; durations are in seconds."""

    worker: int
    hops: int  # number of finished training and validation units
    busy: float  # time spent working on rows
    share: float  # busy time as a fraction of all sessions' total duration
    overhead: float  # time spent fetching, setting, reading and writing model states
    longest_gap: float  # longest time within a session without work on rows
    times_lost: int  # number of times that the worker was lost


@dataclass(frozen=True)
class TimeAxis:
    """Hops (training and validation units) on one time axis without the time between sessions."""

    hops: tuple[tuple[float, Hop], ...]  # start on the axis in seconds, and the hop
    borders: tuple[float, ...]  # starts of all sessions but the first, in seconds
    length: float  # total duration of all sessions, in seconds


def build_time_axis(hops: Sequence[Hop]) -> TimeAxis:
    """Arrange hops on one time axis, on which there is no gap between sessions."""
    placed: list[tuple[float, Hop]] = []
    borders: list[float] = []
    offset = 0.0
    for session in sorted({hop.session for hop in hops}):
        in_session = [hop for hop in hops if hop.session == session]
        first = min(hop.start for hop in in_session)
        if placed:
            borders.append(offset)
        placed += [(offset + hop.start - first, hop) for hop in in_session]
        offset += max(hop.start + hop.seconds for hop in in_session) - first
    return TimeAxis(tuple(placed), tuple(borders), offset)


def compute_usage(run: RunView) -> list[Usage]:
    """Return a breakdown of each worker's time, ordered by worker index."""
    axis = build_time_axis(run.hops)
    usage = []
    for worker in range(run.config["partitions"]):
        hops = [(start, hop) for start, hop in axis.hops if hop.worker == worker]
        busy = sum(hop.seconds for _, hop in hops)
        usage.append(
            Usage(
                worker=worker,
                hops=len(hops),
                busy=busy,
                share=busy / axis.length if axis.length else 0.0,
                overhead=sum(hop.overhead for _, hop in hops),
                longest_gap=_find_longest_gap(hops, axis),
                times_lost=run.lost_workers.get(worker, 0),
            )
        )
    return usage


def _find_longest_gap(hops: Sequence[tuple[float, Hop]], axis: TimeAxis) -> float:
    edges = [(edge, edge) for edge in (0.0, *axis.borders, axis.length)]
    longest, until = 0.0, 0.0
    for start, end in sorted([(start, start + hop.seconds) for start, hop in hops] + edges):
        longest = max(longest, start - until)
        until = max(until, end)
    return longest


def draw_timeline(form: Form, run: RunView, colors: Mapping[str, str]) -> Figure:
    """Draw a row per worker: one bar per hop, or a heat map of the load if there are many hops.

    A hop is a finished training or validation unit. ``colors`` are the trials' colors by name.
    """
    axis = build_time_axis(run.hops)
    workers = run.config["partitions"]
    many = len(axis.hops) > _MOST_BARS
    row = 0.55 if workers <= 8 else 0.3
    height = row * workers + (0.9 if many else 1.3) + (0.5 if form.narrow else 0)
    figure = Figure(figsize=(form.width, height), layout="constrained")
    axes = figure.add_subplot()
    if many:
        _draw_load(figure, axes, axis, workers)
    else:
        _draw_bars(form, axes, axis, colors)
        _draw_legend(form, figure, run, colors)
    for border in axis.borders:
        axes.axvline(border, color="#b00020", linestyle=(0, (4, 3)), linewidth=1.2, zorder=5)
    axes.set_xlim(0, max(axis.length, 1e-9))
    axes.set_ylim(workers - 0.5, -0.5)
    prefix = "w" if form.narrow else "worker "
    labels = [f"{prefix}{each.worker} · {each.share:.0%}" for each in compute_usage(run)]
    axes.set_yticks(range(workers), labels)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("seconds of training" if form.narrow else "seconds since the first hop began")
    return figure


def _draw_bars(form: Form, axes: Any, axis: TimeAxis, colors: Mapping[str, str]) -> None:
    for is_training in (True, False):
        hops = [(start, hop) for start, hop in axis.hops if hop.is_training is is_training]
        axes.barh(
            [hop.worker for _, hop in hops],
            [hop.seconds for _, hop in hops],
            left=[start for start, _ in hops],
            height=0.72,
            color=[colors[hop.trial] for _, hop in hops],
            alpha=1.0 if is_training else _VALIDATION,
            edgecolor="white",
            linewidth=0.3,
        )
    least = axis.length * (0.05 if form.narrow else 0.02)
    for start, hop in axis.hops:
        if hop.is_training and hop.seconds >= least:
            axes.text(
                start + hop.seconds / 2,
                hop.worker,
                hop.trial.rpartition("-")[2].lstrip("0") or "0",
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if _is_dark(colors[hop.trial]) else "black",
                clip_on=True,
            )


def _is_dark(color: str) -> bool:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def _draw_legend(form: Form, figure: Figure, run: RunView, colors: Mapping[str, str]) -> None:
    started = {hop.trial for hop in run.hops}
    best = [trial.trial_id for trial in run.ranked[: count_colored(run)]]
    best = [name for name in best if name in started]
    patches = [Patch(color=colors[name], label=name) for name in best]
    others = [name for name in colors if name in started and name not in best]
    if others:
        patches.append(Patch(color=colors[others[0]], label=f"{len(others)} others"))
    patches.append(Patch(color="#555555", alpha=_VALIDATION, label="pale: validation"))
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=3 if form.narrow else 10,
        fontsize=9,
        handlelength=1.0,
        columnspacing=1.2,
    )


def _draw_load(figure: Figure, axes: Any, axis: TimeAxis, workers: int) -> None:
    image = axes.imshow(
        compute_load(axis, workers, _BINS),
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        vmin=0,
        vmax=1,
        extent=(0, axis.length, workers - 0.5, -0.5),
    )
    bar = figure.colorbar(image, ax=axes, ticks=[0, 0.5, 1], pad=0.01)
    bar.ax.set_yticklabels(["idle", "half", "busy"], fontsize=9)


def compute_load(axis: TimeAxis, workers: int, bins: int) -> np.ndarray:
    """Compute each worker's load, the busy fraction from 0 to 1 of each of ``bins`` time bins.

    Returns:
        A float64 array of shape ``(workers, bins)``.
    """
    step = max(axis.length, 1e-9) / bins
    load = np.zeros((workers, bins))
    for start, hop in axis.hops:
        end = start + hop.seconds
        for i in range(int(start / step), min(int(end / step), bins - 1) + 1):
            inside = min(end, (i + 1) * step) - max(start, i * step)
            load[hop.worker, i] += max(inside, 0.0) / step
    return load.clip(0, 1)
