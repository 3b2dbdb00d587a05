"""Text and HTML representations of a search result, for terminals and notebooks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from nas.ensemble.usual_metrics import format_metrics

if TYPE_CHECKING:
    import pandas as pd

    from nas.results.result import ModelSelectionResult

_MOST_ROWS = 10
_HIDDEN = ("traceback",)

_NEXT = (
    ("leaderboard()", "all trials"),
    ('report("report.html")', "charts, timeline and best network"),
    ("export_model()", "the model that predicts, for Keras alone"),
)


def describe_result(result: ModelSelectionResult) -> str:
    """Describe a result in a few lines: its scores, baseline scores and methods to call next."""
    lines = [
        f"ModelSelectionResult of {len(result.trials)} trials",
        *(f"  {line}" for line in _describe_scores(result)),
        *(f"  .{call:<22} {what}" for call, what in _NEXT),
    ]
    return "\n".join(lines)


def render_result(result: ModelSelectionResult) -> str:
    """Render a result as HTML: its scores, a table of the best trials and methods to call next."""
    board = result.leaderboard().drop(columns=list(_HIDDEN)).dropna(axis="columns", how="all")
    lines = "<br>".join(map(html.escape, _describe_scores(result)))
    more = len(board) - _MOST_ROWS
    calls = ", ".join(f"<code>.{html.escape(call)}</code>" for call, _ in _NEXT)
    return (
        f"<p><b>ModelSelectionResult</b> of {len(result.trials)} trials<br>{lines}</p>"
        f"{_render_table(board.head(_MOST_ROWS))}"
        + (f"<p>… and {more} more</p>" if more > 0 else "")
        + f"<p>{calls}</p>"
    )


def _describe_scores(result: ModelSelectionResult) -> list[str]:
    name = result.objective.name
    best = result.best_trial
    score = result.leaderboard()["score"].iloc[0]
    lines = [f"best trial {best.trial_id}: {name} {score:.6g}"]
    ensemble = result.ensemble
    if ensemble is None:
        return lines
    count = len(ensemble.members)
    lines.append(
        f"ensemble of {count} configuration{'s' * (count > 1)}, which predicts: "
        f"{name} {ensemble.score:.6g} on {ensemble.rows:,} rows"
    )
    if ensemble.baselines:
        simple = ", ".join(f"{each} {value:.6g}" for each, value in ensemble.baselines.items())
        lines.append(f"baselines on the same rows: {simple}")
    lines += [f"{each}: {format_metrics(values)}" for each, values in ensemble.metrics.items()]
    return lines


def _render_table(board: pd.DataFrame) -> str:
    rendered: str = board.to_html(index=False, border=0, float_format=lambda x: f"{x:.6g}")
    return rendered
