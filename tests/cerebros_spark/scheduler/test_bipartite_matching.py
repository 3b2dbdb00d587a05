"""The matching, compared with all possible ones."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from cerebros_spark.scheduler.bipartite_matching import match

OPTIONS = st.lists(st.sets(st.integers(0, 3), max_size=4), max_size=5)
WORKERS = st.permutations(range(4))


def all_matchings(options: list[set[int]]) -> list[dict[int, int]]:
    choices = [[None, *sorted(workers)] for workers in options]
    matchings = []
    for choice in itertools.product(*choices):
        pairs = {job: worker for job, worker in enumerate(choice) if worker is not None}
        if len(set(pairs.values())) == len(pairs):
            matchings.append(pairs)
    return matchings


@settings(max_examples=300)
@given(options=OPTIONS, workers=WORKERS)
def test_jobs_and_then_workers_are_served_by_priority(
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


def test_a_job_moves_to_another_worker_to_make_room() -> None:
    assert match([{0, 1}, {0}], [0, 1]) == {0: 1, 1: 0}


def test_the_worker_of_lowest_priority_stays_idle() -> None:
    assert match([{0, 1, 2}], [2, 0, 1]) == {0: 2}


def test_without_jobs_or_workers_the_matching_is_empty() -> None:
    assert match([], [0, 1]) == {}
    assert match([set()], []) == {}
