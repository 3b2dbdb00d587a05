"""Bipartite matching of jobs and workers by priority.

With equal costs, a schedule without gaps is an edge coloring of the graph of the remaining work.
Each step must serve all trials and all workers with the most work left, and a matching that does
so exists (Kőnig). If one matching serves a set of jobs and another uses a set of workers, a
third does both (Mendelsohn and Dulmage), and an augmenting path keeps all matched jobs and workers
matched. Both sides can therefore be served greedily, in order of priority.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def match(options: Sequence[AbstractSet[int]], workers: Sequence[int]) -> dict[int, int]:
    """Match as many jobs as possible with one worker each.

    Args:
        options: Possible workers of each job, all of them among ``workers``. Jobs are in
            descending order of priority.
        workers: The free workers, in descending order of priority.

    Returns:
        The worker of each served job, by index of the job. Jobs of higher priority are served
        first, by workers of higher priority if they can serve them.
    """
    served = _match_greedily(options, len(workers))
    if len(served) == len(workers):
        return served
    # Some workers stay idle: choose those of lowest priority. Matching from the workers' side
    # still serves the same jobs.
    jobs: list[set[int]] = [set() for _ in workers]
    rank = {worker: number for number, worker in enumerate(workers)}
    for job in served:
        for worker in options[job]:
            jobs[rank[worker]].add(job)
    return {job: workers[number] for number, job in _match_greedily(jobs, len(served)).items()}


def _match_greedily(options: Sequence[AbstractSet[int]], limit: int) -> dict[int, int]:
    """Match at most ``limit`` elements, preferring earlier ones; return the target of each."""
    holders: dict[int, int] = {}
    matched: dict[int, int] = {}
    unreachable: set[int] = set()  # no augmenting path from these ever ends in a free target
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
