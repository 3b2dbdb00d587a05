"""The search space in words."""

from __future__ import annotations

from typing import Any


def search_space_summary(hyperparameters: Any) -> str:
    """The hyperparameters with their ranges and conditions, one a line.

    Args:
        hyperparameters: A ``keras_tuner.HyperParameters``.
    """
    lines = [f"Search space: {len(hyperparameters.space)} hyperparameters"]
    for hp in hyperparameters.space:
        config = dict(hp.get_config())
        name = config.pop("name")
        conditions = [
            f"{each['config']['name']} in {each['config']['values']}"
            for each in config.pop("conditions", [])
        ]
        given = ", ".join(f"{k}={v!r}" for k, v in config.items() if v is not None)
        when = f" if {' and '.join(conditions)}" if conditions else ""
        lines.append(f"  {name}: {type(hp).__name__}({given}){when}")
    return "\n".join(lines)
