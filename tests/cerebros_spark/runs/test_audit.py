from __future__ import annotations

import copy

import pytest

from cerebros_spark.runs.audit import audit
from tests.cerebros_spark.runs.small_journals import complete_run, records, ref


def test_a_complete_run_has_no_faults():
    assert audit(records(complete_run())) == []


def test_an_extension_may_follow_the_end():
    events = [*complete_run(), ("extension", {"max_trials": 2, "max_seconds": None})]
    events += [("session", {"session": 1}), ("proposal", {"trial": "u", "values": {}})]
    assert audit(records(events)) == []
    (fault,) = audit(records([*complete_run(), ("proposal", {"trial": "u", "values": {}})]))
    assert "after the run finished" in fault


def test_every_beginning_of_a_run_has_no_faults():
    events = complete_run()
    for length in range(1, len(events)):
        assert audit(records(events[:length])) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda run: run.insert(5, copy.deepcopy(run[4])), "visited twice"),
        (lambda run: run.insert(7, copy.deepcopy(run[6])), "visited twice"),
        (lambda run: run.pop(5), "before the last training visit"),
        (lambda run: run.pop(7), "no validation on partition 1"),
        (lambda run: run[5][1]["unit"].update(visit=3), "visit 3, but expected 1"),
        (lambda run: run[5][1]["unit"].update(state=ref("s9")), "not start from the previous"),
        (lambda run: run[10][1]["unit"].update(epoch=0), "expected epoch 1"),
        (lambda run: run.pop(8), "an answer without a finished epoch"),
        (lambda run: run.append(copy.deepcopy(run[4])), "after its end"),
        (lambda run: run.insert(4, copy.deepcopy(run[3])), "built twice"),
        (lambda run: run.insert(9, copy.deepcopy(run[8])), "is reported twice"),
        (lambda run: run[4][1].update(worker=1), "on worker 1, which does not have it"),
        (lambda run: run[5][1]["unit"].update(partition=2), "there is no such partition"),
        (lambda run: run[6][1]["unit"].update(visit=1), "visit 1, but expected 2"),
        (lambda run: run[9][1].update(kept=ref("s1")), "the kept state is not that of its epoch"),
        (lambda run: run[-2][1].update(kept=None), "the kept state is not the one kept last"),
        (lambda run: run[3][1].update(epochs=3), "completed after 2 of 3 epochs"),
        (lambda run: run.pop(-2), "finished, but t has not ended"),
        (lambda run: run.insert(4, run.pop(-1)), "after the run finished"),
        (lambda run: run.pop(1), "a unit before the first session"),
        (lambda run: run.pop(3), "was never built"),
        (lambda run: run.append(("session", {"session": 2})), "expected session 1"),
        (lambda run: run.pop(0), "does not begin with a run"),
    ],
)
def test_faults_are_named(change, fault):
    events = complete_run()
    change(events)
    assert any(fault in each for each in audit(records(events)))


def test_a_trial_that_could_not_be_built_is_no_fault():
    events = complete_run()
    events[-1:-1] = [("proposal", {"trial": "u", "values": {}}), ("end", {"trial": "u"})]
    assert audit(records(events)) == []
