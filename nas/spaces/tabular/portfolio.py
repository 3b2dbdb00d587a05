"""Strong values of every family for tables, with which a search begins.

Salinas and Erickson, "TabRepo" (arXiv 2311.02971): a few configurations that complement each other
are better than as many that are drawn at random. The first of each family are the defaults of its
authors, the second RealMLP is from AutoGluon's portfolio.
"""

from __future__ import annotations

from typing import Any


def list_points(is_regression: bool) -> list[dict[str, Any]]:
    """Return the values of each point, best first, without those that are defaults.

    Args:
        is_regression: Whether the label is a number.
    """
    rate = 0.2 if is_regression else 0.04
    return [
        _name("realmlp"),
        _name("linear"),
        _name("mlp"),
        _name(
            "realmlp",
            hidden_layers=4,
            width=256,
            dropout=0.45,
            activation="mish",
            learning_rate=0.0283,
            weight_decay=0.0413,
            embedding_scale=0.108,
            first_factor=0.5,
        ),
        _name("residual"),
        _name("cerebros"),
        _name("realmlp", embedding_scale=1.0, dropout=0.3, width=128, learning_rate=rate / 2),
        _name("mlp", embedding_scale=1.0, dropout=0.3, blocks=3, weight_decay=0.1),
        _name("realmlp", hidden_layers=2, dropout=0.0, embedding_scale=0.03, width=256),
        _name("linear", learning_rate=0.01, weight_decay=0.1),
        _name(
            "realmlp", hidden_layers=3, dropout=0.45, embedding_scale=0.3, activation="mish",
            learning_rate=0.08, weight_decay=0.01,
        ),
        _name("mlp", embedding_scale=0.03, dropout=0.5, blocks=2, learning_rate=1e-3),
        _name("residual", blocks=1, width=64, dropout=0.4, weight_decay=0.05),
        _name("realmlp", embedding_scale=3.0, dropout=0.45, width=128, learning_rate=0.03),
    ]  # fmt: skip


def _name(family: str, **values: Any) -> dict[str, Any]:
    return {"family": family} | {f"{family}/{name}": value for name, value in values.items()}
