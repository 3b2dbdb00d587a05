"""The matching, compared with trying everything."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from cerebros_spark.scheduler.matching import match

OPTIONS = st.lists(st.sets(st.integers(0, 3), max_size=4), max_size=5)
WORKERS = st.permutations(range(4))


def all_matchings(options: list[set[int]]) -> list[dict[int, int]]:
    choices = [[None, *sorted(workers)] for workers in options]
    found = []
    for taken in itertools.product(*choices):
        pairs = {job: worker for job, worker in enumerate(taken) if worker is not None}
        if len(set(pairs.values())) == len(pairs):
            found.append(pairs)
    return found


@settings(max_examples=300, deadline=None, derandomize=True)
@given(options=OPTIONS, workers=WORKERS)
def test_the_important_jobs_and_then_the_important_workers_are_served(
    options: list[set[int]], workers: list[int]
) -> None:
    chosen = match(options, workers)
    possible = all_matchings(options)
    assert chosen in possible

    def jobs(pairs: dict[int, int]) -> list[bool]:
        return [job in pairs for job in range(len(options))]

    def busy(pairs: dict[int, int]) -> list[bool]:
        return [worker in pairs.values() for worker in workers]

    assert jobs(chosen) == max(map(jobs, possible))
    rivals = [pairs for pairs in possible if jobs(pairs) == jobs(chosen)]
    assert busy(chosen) == max(map(busy, rivals))
    assert len(chosen) == max(map(len, possible))


def test_a_job_moves_over_for_another() -> None:
    assert match([{0, 1}, {0}], [0, 1]) == {0: 1, 1: 0}


def test_the_worker_that_has_least_left_stays_idle() -> None:
    assert match([{0, 1, 2}], [2, 0, 1]) == {0: 2}


def test_nothing_to_do_is_no_matching() -> None:
    assert match([], [0, 1]) == {}
    assert match([set()], []) == {}
