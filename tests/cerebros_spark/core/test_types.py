from __future__ import annotations

import dataclasses
import json
import math
import struct

import numpy as np
import pytest

from cerebros_spark.core import types
from cerebros_spark.core.errors import ArgumentError, CerebrosError
from cerebros_spark.core.types import (
    Phase,
    StateRef,
    TrialSpec,
    Unit,
    UnitFailure,
    UnitResult,
    to_wire,
)

REF = StateRef("runs/r/trials/t/state/000001-0.safetensors", 1234, "ab" * 32)
UNIT = Unit("trial-0001", 3, Phase.TRAIN, 1, 7, 2, REF)
SPEC = TrialSpec("trial-0001", 1, "keras", '{"a": "\\u00fc \\n"}', 0, 2, 32, 1000)


def result(**changes) -> UnitResult:
    fields = {
        "unit": UNIT,
        "worker": 1,
        "state": REF,
        "metrics": ((1.5, 2.0), (0.0,)),
        "rows": 100,
        "began": 1700000000.123456,
        "seconds": 1 / 3,
        "traces": 1,
        "hop_seconds": {"fetch": 0.1, "set": 1e-300},
    }
    return UnitResult(**{**fields, **changes})


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_a_state_ref_survives_the_wire():
    assert types.state_ref(json.loads(to_wire(REF))) == REF


def test_a_unit_survives_the_wire():
    for phase in Phase:
        unit = dataclasses.replace(UNIT, phase=phase)
        again = types.unit(json.loads(to_wire(unit)))
        assert again == unit
        assert again.phase is phase


def test_a_result_survives_the_wire_and_is_hashable_as_before():
    for each in (result(), result(state=None), result(metrics=())):
        again = types.unit_result(json.loads(to_wire(each)))
        assert again == each
        assert hash(again.metrics) == hash(each.metrics)


def test_a_failure_survives_the_wire():
    failure = UnitFailure(UNIT, 1, 'ValueError: ü\n"quoted"', "Traceback …\n  File \\x\n")
    assert types.unit_failure(json.loads(to_wire(failure))) == failure


def test_a_spec_survives_the_wire():
    assert types.trial_spec(to_wire(SPEC)) == SPEC
    assert types.trial_spec(to_wire(SPEC).encode()) == SPEC


def test_floats_survive_bit_for_bit():
    rng = np.random.default_rng(0)
    random = struct.unpack("<500d", rng.bytes(4000))
    hard = (0.1, -0.0, 5e-324, 1.7976931348623157e308, 2**53 + 1.0, math.inf, -math.inf)
    values = tuple(value for value in (*random, *hard) if not math.isnan(value))
    again = types.unit_result(json.loads(to_wire(result(metrics=(values,))))).metrics[0]
    assert [bits(value) for value in again] == [bits(value) for value in values]
    assert all(isinstance(value, float) for value in again)


def test_the_counts_of_an_auc_survive():
    # Four vectors of 200 thresholds.
    rng = np.random.default_rng(1)
    counts = tuple(tuple(map(float, rng.integers(0, 2**40, 200))) for _ in range(4))
    again = types.unit_result(json.loads(to_wire(result(metrics=counts))))
    assert again.metrics == counts


def test_a_value_is_one_line():
    failure = UnitFailure(UNIT, 1, "two\nlines", "a\nb\n")
    assert "\n" not in to_wire(failure)
    assert "\n" not in to_wire(result())


def test_values_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        UNIT.epoch = 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEC.seed = 1


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_spec_without_work_is_refused(name, value):
    with pytest.raises(
        ArgumentError, match=f"{name} must be a positive integer, but got {value}"
    ) as error:
        dataclasses.replace(SPEC, **{name: value})
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, CerebrosError)


def test_an_unknown_phase_is_refused():
    with pytest.raises(ValueError, match="guess"):
        types.unit({**json.loads(to_wire(UNIT)), "phase": "guess"})
