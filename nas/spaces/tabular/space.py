"""Search space of networks for tables, in several families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.spaces.validation import check_list, check_member

FAMILY = "family"
"""Hyperparameter that chooses the family."""

TABM = "tabm"
"""Family that learns by some losses alone."""

LINEAR = "linear"
"""Family of the simplest networks."""

FAMILIES = ("realmlp", TABM, "mlp", "residual", "cerebros", LINEAR)


@dataclass(frozen=True)
class TabularSpace:
    """Search space of networks for raw tables.

    Args:
        families: Families to search: ``"realmlp"`` (:mod:`.realmlp`), ``"tabm"`` (:mod:`.tabm`,
            for squared errors and cross-entropies without weights), ``"mlp"`` (perceptrons with
            embedded numbers, as the members of TabPack), ``"residual"`` (residual perceptrons),
            ``"cerebros"`` (random networks of levels and units) and ``"linear"`` (one layer: the
            yardstick).

    Raises:
        ArgumentError: If a family is unknown.
    """

    families: tuple[str, ...] = FAMILIES

    def __post_init__(self) -> None:
        families = tuple(check_list("families", self.families, "names"))
        for family in families:
            check_member("families", family, FAMILIES)
        object.__setattr__(self, "families", families)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as JSON values."""
        return {"families": list(self.families)}
