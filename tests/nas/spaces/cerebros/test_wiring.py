from __future__ import annotations

import collections
import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.moiety import Moiety, draw_moiety
from nas.spaces.cerebros.plan import LATERAL, UPSTREAM, Edge, OutputFuture
from nas.spaces.cerebros.random_stream import RandomStream
from nas.spaces.cerebros.space import CerebrosSpace
from nas.spaces.cerebros.wiring import draw_future, draw_lateral, draw_upstream, repair_unread
from tests.nas.spaces.cerebros.cerebros_strategies import FINAL, FIRST, MAIN, drawn, seeds, spaces

# The plan of the published space for seed 8675309. It changes only when the draws do, and then
# seeds of earlier searches mean other networks: say so in the changelog.
GOLDEN = "20b84c1ebd295368c484ed81c284c539cf5161edca35464fba6c8978fdff55ae"


def published(seed: int = 8675309):  # type: ignore[no-untyped-def]
    space = CerebrosSpace.published()
    return draw_future(space, draw_moiety(space, seed), [38], [OutputFuture(1)], seed)


def fingerprint(seed: int = 8675309) -> str:
    return hashlib.sha256(published(seed).to_json().encode()).hexdigest()


@given(spaces(), seeds)
@settings(max_examples=60)
def test_a_moiety_is_within_its_bounds(space: CerebrosSpace, seed: int) -> None:
    moiety = draw_moiety(space, seed)
    assert moiety == draw_moiety(space, seed)
    assert space.minimum_levels <= len(moiety.neurons) <= space.maximum_levels
    for level in moiety.neurons:
        assert space.minimum_units_per_level <= len(level) <= space.maximum_units_per_level
        for neurons in level:
            assert space.minimum_neurons_per_unit <= neurons <= space.maximum_neurons_per_unit
    for level in moiety.dendrites:
        for dendrites in level:
            low, high = space.minimum_dendrites_per_neuron, space.maximum_dendrites_per_neuron
            assert low <= dendrites <= high
    assert bool(moiety.dendrites) <= ("neuron" in space.choices("unit"))


def test_moieties_are_drawn_uniformly() -> None:
    space = CerebrosSpace.published()
    moieties = [draw_moiety(space, seed) for seed in range(1200)]
    levels = collections.Counter(len(moiety.neurons) for moiety in moieties)
    assert set(levels) == {2, 3, 4, 5, 6, 7}
    assert all(150 < count < 250 for count in levels.values())
    neurons = collections.Counter(n for m in moieties for level in m.neurons for n in level)
    assert max(neurons.values()) / min(neurons.values()) < 1.1


@given(drawn())
@settings(max_examples=150)
def test_the_rules_hold(pair: tuple) -> None:
    """Checked from the edges, independently of the plan's checks."""
    space, future = pair
    depth = space.maximum_skip_connection_depth
    read = set()
    for level, units in enumerate(future.levels):
        for number, unit in enumerate(units):
            above = [edge for edge in unit.edges if edge.kind == UPSTREAM]
            left = [edge for edge in unit.edges if edge.kind == LATERAL]
            assert bool(above) == (level > 0)
            assert all(1 <= level - edge.level <= depth for edge in above)
            assert all(edge.level == level and edge.unit < number for edge in left)
            read |= {(edge.level, edge.unit) for edge in above}
    expected = {(k, u) for k, units in enumerate(future.levels[:-1]) for u in range(len(units))}
    assert read == expected


@given(spaces(), seeds)
@settings(max_examples=60)
def test_counts_before_repair_follow_the_formula(space: CerebrosSpace, seed: int) -> None:
    sizes = [2, *(len(level) for level in draw_moiety(space, seed).neurons), 2]
    last = len(sizes) - 1
    for level, readers in enumerate(draw_upstream(space, sizes, seed)):
        for edges in readers:
            counts = collections.Counter(edge.level for edge in edges)
            for source in range(level):
                expected = 0
                if space.reaches(level - source):
                    expected = space.picks(level, source, sizes[source])
                if level == last and source == last - 1:
                    expected += space.final_picks(sizes[source])
                assert counts[source] == expected


def test_picks_are_uniform_with_replacement() -> None:
    space = CerebrosSpace.published(
        minimum_skip_connection_depth=1, maximum_skip_connection_depth=1
    )
    counts: collections.Counter[int] = collections.Counter()
    repeated = False
    for seed in range(200):
        edges = draw_upstream(space, [4, 1, 1], seed)[1][0]
        units = [edge.unit for edge in edges]
        repeated |= len(set(units)) < len(units)
        counts.update(units)
    assert repeated
    assert max(counts.values()) / min(counts.values()) < 1.1


def test_outputs_pick_more_from_the_last_hidden_level() -> None:
    sizes = [1, 2, 3, 1]
    plain = draw_upstream(CerebrosSpace.published(), sizes, 1)[3][0]
    more = draw_upstream(CerebrosSpace.published(**{FINAL: 2.5}), sizes, 1)[3][0]
    assert len(more) - len(plain) == 8
    assert sum(e.level == 2 for e in more) - sum(e.level == 2 for e in plain) == 8


@given(drawn())
@settings(max_examples=100)
def test_edges_keep_the_minimum_skip_depth_unless_repaired(pair: tuple) -> None:
    space, future = pair
    last = len(future.levels) - 1
    for unit in future.units():
        for edge in unit.edges:
            distance = unit.level - edge.level
            if edge.kind == LATERAL or space.reaches(distance):
                continue
            # Shorter only where no level is far enough down.
            assert edge.level + space.minimum_skip_connection_depth > last


@pytest.mark.parametrize(
    ("low", "high", "level", "readers"),
    [
        (1, 1, 0, {1}),
        (1, 7, 0, {1, 2, 3, 4}),
        (2, 3, 0, {2, 3}),
        (2, 7, 2, {4}),
        # No level is three below level 2: the last hidden level reads it, then an output.
        (3, 7, 2, {3}),
        (3, 7, 3, {4}),
    ],
)
def test_repair_connects_an_unread_unit_to_a_level_in_reach(
    low: int, high: int, level: int, readers: set[int]
) -> None:
    space = CerebrosSpace.published(
        minimum_skip_connection_depth=low, maximum_skip_connection_depth=high
    )
    found = set()
    for seed in range(60):
        edges: list[list[list[Edge]]] = [[[], []] for _ in range(5)]
        # Everything is picked but unit 1 of that level.
        for k in range(4):
            edges[k + 1][0] = [Edge(k, u) for u in range(2) if (k, u) != (level, 1)]
        repair_unread(space, edges, seed)
        orphan = [
            k
            for k, units in enumerate(edges)
            for unit in units
            for e in unit
            if (e.level, e.unit) == (level, 1)
        ]
        assert len(orphan) == 1
        found |= set(orphan)
    assert found == readers


def test_unread_inputs_are_repaired() -> None:
    space = CerebrosSpace.published(**{FIRST: 0.0, MAIN: 0.0})
    moiety = Moiety(neurons=((1,),))
    future = draw_future(space, moiety, [3] * 6, [OutputFuture(1)], 0)
    read = {(e.level, e.unit) for unit in future.units() for e in unit.edges}
    assert {(0, u) for u in range(6)} <= read


def test_lateral_edges_gates_and_cap() -> None:
    space = CerebrosSpace.published(
        p_lateral_connection=1.0,
        p_lateral_connection_decay=1.0,
        num_lateral_connection_tries_per_unit=5,
        gate_after_n_lateral_connections=3,
        max_consecutive_lateral_connections=9,
    )
    rows = draw_lateral(space, 2, 4, 0)
    assert [len(row) for row in rows] == [0, 5, 9, 9]
    assert [edge.gated for edge in rows[2]] == [False, False, False, True] * 2 + [False]
    assert [edge.unit for edge in rows[2]] == [0] * 5 + [1] * 4


@given(drawn())
@settings(max_examples=60)
def test_every_nth_lateral_edge_is_gated(pair: tuple) -> None:
    space, future = pair
    period = space.gate_after_n_lateral_connections + 1
    for unit in future.units():
        row = [edge for edge in unit.edges if edge.kind == LATERAL]
        assert len(row) <= space.max_consecutive_lateral_connections
        assert [edge.gated for edge in row] == [i % period == period - 1 for i in range(len(row))]


def test_the_lateral_decay_is_used() -> None:
    space = CerebrosSpace.published(
        p_lateral_connection=0.5,
        p_lateral_connection_decay=lambda distance: 1.0 if distance == 2 else 0.0,
    )
    rows = [draw_lateral(space, 1, 4, seed) for seed in range(20)]
    pairs = {(u, e.unit) for level in rows for u, row in enumerate(level) for e in row}
    assert pairs == {(2, 0), (3, 1)}
    assert 120 < sum(len(row) for level in rows for row in level) / len(rows) * 10 < 280


@given(drawn(), seeds)
@settings(max_examples=30)
def test_the_same_seed_gives_the_same_plan(pair: tuple, seed: int) -> None:
    space = pair[0]
    outputs = [OutputFuture(1)]
    first, second = (
        draw_future(space, draw_moiety(space, seed), [3, 2], outputs, seed) for _ in range(2)
    )
    assert first == second


def test_other_seeds_give_other_wirings_of_the_same_units() -> None:
    space = CerebrosSpace.published()
    moiety = draw_moiety(space, 1)
    plans = [draw_future(space, moiety, [4], [OutputFuture(1)], seed) for seed in range(5)]
    assert len({plan.to_json() for plan in plans}) == 5
    assert len({tuple((u.name, u.neurons) for u in plan.units()) for plan in plans}) == 1


def test_zero_is_a_valid_seed() -> None:
    assert published(0) == published(0)
    assert published(0) != published(1)


@pytest.mark.cluster
def test_the_plan_is_the_same_in_every_process() -> None:
    assert fingerprint() == GOLDEN
    code = "from tests.nas.spaces.cerebros import test_wiring as t; print(t.fingerprint())"
    for salt in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        assert done.stdout.decode().strip() == GOLDEN


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    import random

    random.seed(1)
    before = random.getstate()
    first = fingerprint()
    assert random.getstate() == before
    random.seed(2)
    assert fingerprint() == first


def test_draws_reach_both_bounds() -> None:
    draws = RandomStream(0, "bounds")
    assert {draws.integer(2, 4) for _ in range(100)} == {2, 3, 4}
    assert not draws.chance(0.0)
    assert draws.chance(1.0)


@pytest.mark.parametrize(
    ("inputs", "outputs"), [([], [OutputFuture(1)]), ([3], []), ([0], [OutputFuture(1)])]
)
def test_a_network_needs_inputs_and_outputs(inputs: list, outputs: list) -> None:
    with pytest.raises(ArgumentError, match="input"):
        draw_future(CerebrosSpace.published(), Moiety(neurons=((1,),)), inputs, outputs, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"neurons": ()}, "neurons"),
        ({"neurons": ((1,), ())}, "neurons"),
        ({"neurons": ((0,),)}, "neurons .* got 0"),
        ({"neurons": ((1,),), "dendrites": ((1, 2),)}, "shape of neurons"),
        ({"neurons": ((1,),), "merge": "multiply"}, "merge .* got 'multiply'"),
    ],
)
def test_a_moiety_is_checked(arguments: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Moiety(**arguments)
