"""Strong configurations of every family for tables, with which a search begins.

A few configurations that complement each other are better than the same number of random ones
(Salinas and Erickson, "TabRepo", arXiv 2311.02971). The first of each family has the defaults of
the family's authors; the second RealMLP configuration is from AutoGluon's portfolio.
"""

from __future__ import annotations

from typing import Any


def list_points(is_regression: bool) -> list[dict[str, Any]]:
    """Return the strong configurations, each as a dict of values by name, best first.

    Values that equal their defaults are omitted. Where possible, configurations of one family
    differ only in numeric hyperparameters, so that they can share a traced training step.

    Args:
        is_regression: Whether the label is a number.
    """
    rate = 0.2 if is_regression else 0.04
    deep: dict[str, Any] = {
        "hidden_layers": 4,
        "dropout": 0.45,
        "activation": "mish",
        "first_factor": 0.5,
    }
    return [
        _name("realmlp"),
        _name("linear"),
        _name("mlp", embedding_scale=0.3),
        _name("tabm"),
        _name("realmlp", embedding_scale=1.0, learning_rate=rate / 2, weight_decay=0.01),
        _name("mlp", embedding_scale=2.0, learning_rate=1e-3, weight_decay=0.1),
        _name("linear", numbers="clipped"),
        _name("cerebros"),
        _name("mlp", embedding_scale=0.05, learning_rate=3e-3, weight_decay=0.3),
        _name("realmlp", **deep, learning_rate=0.0283, weight_decay=0.0413, embedding_scale=0.108),
        _name("residual"),
        _name("realmlp", embedding_scale=3.0, learning_rate=rate / 4, weight_decay=0.05),
        _name("realmlp", **deep, learning_rate=0.06, weight_decay=0.01, embedding_scale=0.5),
        _name("tabm", embedding_scale=0.05, learning_rate=1e-3, weight_decay=0.01),
        _name("realmlp", embedding_scale=0.03, learning_rate=rate / 2),
    ]


def _name(family: str, **values: Any) -> dict[str, Any]:
    return {"family": family} | {f"{family}/{name}": value for name, value in values.items()}
