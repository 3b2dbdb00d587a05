"""Random spaces and plans for the property-based tests of this folder."""

from __future__ import annotations

from hypothesis import strategies as st

from nas.spaces.cerebros.moiety import draw_moiety
from nas.spaces.cerebros.plan import NetworkFuture, OutputFuture
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.cerebros.wiring import draw_future

MAIN = "predecessor_level_connection_affinity_factor_main"
FIRST = "predecessor_level_connection_affinity_factor_first"
FINAL = "predecessor_level_connection_affinity_factor_final_to_kminus1"

seeds = st.integers(0, 2**32 - 1)
rules = st.sampled_from(["ceil", "floor"])
choices = st.sampled_from


@st.composite
def ranges(draw: st.DrawFn, most: int) -> tuple[int, int]:
    low = draw(st.integers(1, most))
    return low, draw(st.integers(low, most))


@st.composite
def spaces(draw: st.DrawFn) -> CerebrosSpace:
    levels, units, neurons = draw(ranges(5)), draw(ranges(4)), draw(ranges(4))
    skips, dendrites = draw(ranges(6)), draw(ranges(3))
    return CerebrosSpace.published(
        minimum_levels=levels[0],
        maximum_levels=levels[1],
        minimum_units_per_level=units[0],
        maximum_units_per_level=units[1],
        minimum_neurons_per_unit=neurons[0],
        maximum_neurons_per_unit=neurons[1],
        minimum_skip_connection_depth=skips[0],
        maximum_skip_connection_depth=skips[1],
        minimum_dendrites_per_neuron=dendrites[0],
        maximum_dendrites_per_neuron=dendrites[1],
        predecessor_level_connection_affinity_factor_first=draw(st.floats(0, 3)),
        predecessor_level_connection_affinity_factor_first_rounding_rule=draw(rules),
        predecessor_level_connection_affinity_factor_main=draw(st.floats(0, 3)),
        predecessor_level_connection_affinity_factor_main_rounding_rule=draw(rules),
        predecessor_level_connection_affinity_factor_decay_main=draw(st.floats(0, 1.2)),
        predecessor_level_connection_affinity_factor_final_to_kminus1=draw(st.floats(0, 2)),
        max_consecutive_lateral_connections=draw(st.integers(1, 10)),
        gate_after_n_lateral_connections=draw(st.integers(1, 4)),
        p_lateral_connection=draw(st.floats(0, 1)),
        p_lateral_connection_decay=draw(st.floats(0, 1.2)),
        num_lateral_connection_tries_per_unit=draw(st.integers(1, 6)),
        merge=draw(choices(["concatenate", "add", ("add", "concatenate")])),
        regularization=draw(choices(["batch_normalization", "dropout", "none"])),
        unit=draw(choices(["dense", "neuron", ("dense", "neuron")])),
    )


@st.composite
def drawn(draw: st.DrawFn) -> tuple[CerebrosSpace, NetworkFuture]:
    space = draw(spaces())
    inputs = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    widths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    moiety = draw_moiety(space, draw(seeds))
    outputs = [OutputFuture(width) for width in widths]
    return space, draw_future(space, moiety, inputs, outputs, draw(seeds))
