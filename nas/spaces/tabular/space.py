"""Search space of networks for tables, in several families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.spaces.validation import check_list, check_member

FAMILY = "family"
"""Name of the hyperparameter that chooses the family."""

TABM = "tabm"
"""Name of the TabM family, which supports only some losses."""

LINEAR = "linear"
"""Name of the family of linear models, the simplest networks."""

FAMILIES = ("realmlp", TABM, "mlp", "residual", "cerebros", LINEAR)


@dataclass(frozen=True)
class TabularSpace:
    """Search space of networks for raw tables.

    Args:
        families: Families to search, by default all of them: ``"realmlp"`` (:mod:`.realmlp`),
            ``"tabm"`` (:mod:`.tabm`; only for squared errors and cross-entropies without sample or
            class weights), ``"mlp"`` (perceptrons with embedded numbers, as in TabPack),
            ``"residual"`` (residual perceptrons), ``"cerebros"`` (randomly wired networks) and
            ``"linear"`` (linear models, as a baseline).

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
        """Return the arguments as a JSON-serializable dict."""
        return {"families": list(self.families)}
