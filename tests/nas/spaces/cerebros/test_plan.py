from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings

from cerebros_spark.core.errors import ArgumentError
from nas.spaces.cerebros.plan import LATERAL, Edge, NetworkFuture, OutputFuture, UnitFuture
from tests.nas.spaces.cerebros.cerebros_strategies import drawn


def unit(level: int, number: int, *edges: Edge, kind: str = "dense", **more: int) -> UnitFuture:
    return UnitFuture(
        level, number, kind, more.get("neurons", 2), more.get("dendrites", 0), edges=edges
    )


def plan(*hidden: tuple[UnitFuture, ...], out: tuple[Edge, ...], depth: int = 2) -> NetworkFuture:
    last = len(hidden) + 1
    levels = ((unit(0, 0, kind="input"),), *hidden, (unit(last, 0, *out, kind="output"),))
    return NetworkFuture(levels, depth)


def test_a_valid_plan() -> None:
    future = plan(
        (
            unit(1, 0, Edge(0, 0), Edge(0, 0)),
            unit(1, 1, Edge(0, 0), Edge(1, 0, LATERAL, True), kind="neuron", dendrites=3),
        ),
        out=(Edge(1, 0), Edge(1, 1), Edge(0, 0)),
    )
    assert [len(future.inputs), len(future.hidden), len(future.outputs)] == [1, 1, 1]
    assert future.hidden[0][1].width == 6
    assert future.merged_width(future.outputs[0]) == 10
    # Widths 4, 4 and 10 before the three Dense layers; batch normalization has 4 weights a value.
    neuron = 4 * 4 + 5 * 2 + 3 * (3 * 2)
    assert future.parameters == (4 * 4 + 5 * 2) + neuron + (4 * 10 + 11 * 2)
    added = dataclasses.replace(future, merge="add")
    assert added.merged_width(added.outputs[0]) == 8
    assert "level1_unit1: neuron 2 x 3, reads 1 from above and 1 from the left (1 gated)" in (
        future.summary()
    )


@pytest.mark.parametrize(
    ("hidden", "out", "words"),
    [
        (((unit(1, 0),),), (Edge(1, 0), Edge(0, 0)), "rule 1 .* level1_unit0"),
        (
            ((unit(1, 0, Edge(0, 0)), unit(1, 1, Edge(1, 0, LATERAL))),),
            (Edge(1, 0), Edge(1, 1)),
            "rule 1 .* level1_unit1",
        ),
        (((unit(1, 0, Edge(0, 0)),),), (Edge(0, 0),), "rule 2 .* level1_unit0"),
        # Read only from the right: still a dead end as far as levels go.
        (
            ((unit(1, 0, Edge(0, 0)), unit(1, 1, Edge(0, 0), Edge(1, 0, LATERAL))),),
            (Edge(1, 1),),
            "rule 2 .* level1_unit0",
        ),
        (((unit(1, 0, Edge(0, 0), Edge(1, 0)),),), (Edge(1, 0),), "rule 3 .* level1_unit0"),
        (((unit(1, 0, Edge(0, 0), Edge(2, 0)),),), (Edge(1, 0),), "rule 3"),
        (
            ((unit(1, 0, Edge(0, 0), Edge(1, 1, LATERAL)), unit(1, 1, Edge(0, 0))),),
            (Edge(1, 0), Edge(1, 1)),
            "rule 3",
        ),
        (((unit(1, 0, Edge(0, 0), Edge(1, 0, LATERAL)),),), (Edge(1, 0),), "rule 3"),
        (((unit(1, 0, Edge(0, 1)),),), (Edge(1, 0),), "does not exist"),
        (((unit(1, 1, Edge(0, 0)),),), (Edge(1, 0),), "unit 0 of level 1"),
        (((unit(1, 0, Edge(0, 0), kind="output"),),), (Edge(1, 0),), "unit 0 of level 1"),
        (((),), (Edge(0, 0),), "units on each level"),
    ],
)
def test_an_invalid_plan_is_refused(hidden: tuple, out: tuple, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        plan(*hidden, out=out)


def test_an_edge_beyond_the_depth_is_refused() -> None:
    hidden = ((unit(1, 0, Edge(0, 0)),), (unit(2, 0, Edge(1, 0)),))
    assert plan(*hidden, out=(Edge(2, 0), Edge(1, 0)))
    with pytest.raises(ArgumentError, match="at most 1 levels down"):
        plan(*hidden, out=(Edge(2, 0), Edge(1, 0)), depth=1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Edge(-1, 0), "level .* got -1"),
        (lambda: Edge(0, 0, "sideways"), "kind .* got 'sideways'"),
        (lambda: Edge(0, 0, gated=True), "only a lateral edge"),
        (lambda: OutputFuture(0), "width .* got 0"),
        (lambda: OutputFuture(1, "nothing"), "activation .* got 'nothing'"),
        (lambda: UnitFuture(1, 0, "dense", 0), "neurons .* got 0"),
        (lambda: UnitFuture(1, 0, "neuron", 2), "dendrites .* got 0"),
        (lambda: UnitFuture(1, 0, "dense", 2, 2), "only a neuron"),
        (lambda: UnitFuture(1, 0, "other", 2), "kind .* got 'other'"),
    ],
)
def test_values_are_checked(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ArgumentError, match=words):
        make()


@given(drawn())
@settings(max_examples=40)
def test_json_round_trip(pair: tuple) -> None:
    future = pair[1]
    text = future.to_json()
    assert NetworkFuture.from_json(text) == future
    assert NetworkFuture.from_json(text).to_json() == text


def test_json_of_another_format_or_of_an_invalid_plan_is_refused() -> None:
    future = plan((unit(1, 0, Edge(0, 0)),), out=(Edge(1, 0),))
    value = json.loads(future.to_json())
    with pytest.raises(ArgumentError, match="format"):
        NetworkFuture.from_json(json.dumps({**value, "format": 99}))
    value["levels"][1][0]["edges"] = []
    with pytest.raises(ArgumentError, match="rule 1"):
        NetworkFuture.from_json(json.dumps(value))
