"""Bipartite matching of jobs and workers by priority.

With equal costs, a schedule without gaps is an edge coloring of the graph of the remaining work.
Each step must serve all trials and all workers that have the most left, and a matching that does
so exists (Kőnig). One matching can serve any servable set of jobs together with any set of workers
that can be busy (Mendelsohn and Dulmage), and an augmenting path unassigns nothing. So both sides
may be served greedily, in order of priority.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def match(options: Sequence[AbstractSet[int]], workers: Sequence[int]) -> dict[int, int]:
    """Assign one worker each to as many jobs as possible.

    Args:
        options: For each job its possible workers, all of them among ``workers``; jobs in
            descending order of priority.
        workers: The free workers, in descending order of priority.

    Returns:
        The worker by the index of the job. Jobs of higher priority are served first; among the
        workers that can serve them, those of higher priority do.
    """
    served = _match_greedily(options, len(workers))
    if len(served) == len(workers):
        return served
    # Some workers stay idle: choose those of lowest priority. Matching from the workers' side
    # still serves every served job.
    jobs: list[set[int]] = [set() for _ in workers]
    rank = {worker: number for number, worker in enumerate(workers)}
    for job in served:
        for worker in options[job]:
            jobs[rank[worker]].add(job)
    return {job: workers[number] for number, job in _match_greedily(jobs, len(served)).items()}


def _match_greedily(options: Sequence[AbstractSet[int]], limit: int) -> dict[int, int]:
    """Return a matching of at most ``limit`` pairs that prefers the first elements."""
    holders: dict[int, int] = {}
    matched: dict[int, int] = {}
    unreachable: set[int] = set()  # no augmenting path from these ends in anything free, ever
    for root in range(len(options)):
        if len(matched) == limit:
            break
        seen: set[int] = set()
        came_from: dict[int, int] = {}
        free: int | None = None
        queue = [root]
        for element in queue:
            reached = options[element] - seen - unreachable
            free = min(reached - holders.keys(), default=None)
            if free is not None:
                came_from[free] = element
                break
            seen |= reached
            for target in sorted(reached):
                came_from[target] = element
                queue.append(holders[target])
        if free is None:
            unreachable |= seen
        while free is not None:
            element = came_from[free]
            holders[free] = element
            previous = matched.get(element)
            matched[element] = free
            free = previous
    return matched
