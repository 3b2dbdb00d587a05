#!/usr/bin/env python3
"""Draw the picture in README: a plan of three inputs, four levels and two outputs."""

from __future__ import annotations

import argparse
from pathlib import Path

from nas import CerebrosSpace, draw_network
from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.plan import OutputFuture
from nas.spaces.cerebros.wiring import draw_future

_PLACE = Path(__file__).parent.parent / "docs" / "images" / "network.svg"


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--out", type=Path, default=_PLACE)
    args = parser.parse_args()
    # Sparser than the published settings, so that each line can be followed.
    space = CerebrosSpace.published(
        minimum_levels=4,
        maximum_levels=4,
        minimum_units_per_level=2,
        predecessor_level_connection_affinity_factor_first=1.0,
        predecessor_level_connection_affinity_factor_main=0.5,
        predecessor_level_connection_affinity_factor_main_rounding_rule="floor",
        p_lateral_connection=0.1,
    )
    moiety = draw_moiety(space, args.seed)
    plan = draw_future(space, moiety, [4, 8, 3], [OutputFuture(1), OutputFuture(3)], args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(draw_network(plan), encoding="utf-8")


if __name__ == "__main__":
    main()
