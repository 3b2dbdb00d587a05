from __future__ import annotations

import dataclasses
import json
import math
import struct
from typing import TypeVar

import msgspec
import numpy as np
import pytest

from cerebros_spark.core.errors import ArgumentError, CerebrosError
from cerebros_spark.core.types import (
    Assignment,
    Phase,
    StateRef,
    Status,
    TrialResult,
    TrialSpec,
    Unit,
    UnitFailure,
    UnitResult,
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


T = TypeVar("T")


def through_json(value: T) -> T:
    """A value after a round trip through JSON text."""
    text = json.dumps(msgspec.to_builtins(value))
    return msgspec.convert(json.loads(text), type(value))


@pytest.mark.parametrize(
    "value",
    [
        REF,
        UNIT,
        msgspec.structs.replace(UNIT, phase=Phase.VALIDATE),
        Assignment((UNIT,), ("trial-0002",)),
        UnitFailure(UNIT, 1, 'ValueError: ü\n"quoted"', "Traceback …\n  File \\x\n", True),
        result(),
        result(unit=msgspec.structs.replace(UNIT, phase=Phase.VALIDATE), state=None),
        result(metrics=()),
    ],
)
def test_values_survive_json(value):
    copy = through_json(value)
    assert copy == value
    assert type(copy) is type(value)


@pytest.mark.parametrize("key", ["/etc/passwd", "../x", "runs/../../x"])
def test_a_state_outside_of_the_store_is_refused(key):
    fields = {**msgspec.to_builtins(REF), "key": key}
    with pytest.raises(msgspec.ValidationError, match=r"relative path, .* at `\$\[0\]`"):
        msgspec.convert([fields], tuple[StateRef, ...])


@pytest.mark.parametrize(("phase", "state"), [(Phase.TRAIN, None), (Phase.VALIDATE, REF)])
def test_only_training_units_have_a_state(phase, state):
    with pytest.raises(ValueError, match="a training unit must have a state"):
        result(unit=msgspec.structs.replace(UNIT, phase=phase), state=state)


def test_equal_values_have_equal_hashes():
    assert hash(through_json(UNIT)) == hash(UNIT)
    assert hash(through_json(result()).metrics) == hash(result().metrics)


def test_a_spec_survives_json():
    assert msgspec.json.decode(msgspec.json.encode(SPEC), type=TrialSpec) == SPEC


def test_the_json_form_of_a_trial_result_is_its_journal_record():
    end = TrialResult("trial-0001", Status.STOPPED, 3, 1.5, kept=REF)
    record = msgspec.to_builtins(end)
    assert list(record) == ["trial", "status", "epochs", "seconds", "error", "traceback", "kept"]
    assert (record["trial"], record["status"], record["epochs"]) == ("trial-0001", "stopped", 3)
    assert msgspec.convert({"number": 7, "kind": "end", **record}, TrialResult) == end


def test_floats_survive_bit_for_bit():
    rng = np.random.default_rng(0)
    random = struct.unpack("<500d", rng.bytes(4000))
    hard = (0.1, -0.0, 5e-324, 1.7976931348623157e308, 2**53 + 1.0, math.inf, -math.inf)
    values = tuple(value for value in (*random, *hard) if not math.isnan(value))
    copy = through_json(result(metrics=(values,))).metrics[0]
    assert [bits(value) for value in copy] == [bits(value) for value in values]
    assert all(isinstance(value, float) for value in copy)


def test_the_counts_of_an_auc_survive():
    # Four vectors of 200 thresholds.
    rng = np.random.default_rng(1)
    counts = tuple(tuple(map(float, rng.integers(0, 2**40, 200))) for _ in range(4))
    assert through_json(result(metrics=counts)).metrics == counts


def test_values_cannot_be_changed():
    with pytest.raises(AttributeError, match="immutable"):
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phase": "guess"}, r"'guess' - at `\$\.phase`"),
        ({"epoch": -1}, r">= 0 - at `\$\.epoch`"),
        ({"trial_id": "x" * 5000}, r"<= 4096 - at `\$\.trial_id`"),
        ({"trial_id": "\ud800"}, r"regex .*`\$\.trial_id`"),
        ({"other": 1}, "unknown field `other`"),
    ],
)
def test_an_invalid_field_is_named(change, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({**msgspec.to_builtins(UNIT), **change}, Unit)
