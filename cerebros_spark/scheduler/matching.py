"""Who works for whom: a matching between jobs and workers that serves the important ones first.

With equal costs a schedule without gaps is an edge colouring of the graph of what is still to be
done: every step must serve all trials and all workers that have the most left, and a matching that
does so exists (Kőnig). A set of jobs that can be served together, and a set of workers that can be
busy together, can be had by one matching (Mendelsohn and Dulmage), and an augmenting path takes
nobody's place away. So both sides may be served greedily, in the order of their importance.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def match(options: Sequence[AbstractSet[int]], workers: Sequence[int]) -> dict[int, int]:
    """Gives as many jobs as possible a worker each.

    Args:
        options: For each job the workers that it could have, all of them among ``workers``;
            the most important job first.
        workers: The free workers; the most important first.

    Returns:
        The worker by the number of the job. Jobs that could be served together with all that are
        more important are served; of the workers that can serve them, the important ones do.
    """
    served = _serve(options, len(workers))
    if len(served) == len(workers):
        return served
    # Some worker stays idle: let it be one that has little left. All the jobs that were served
    # can still be, so none is lost by asking the workers this time.
    jobs: list[set[int]] = [set() for _ in workers]
    rank = {worker: number for number, worker in enumerate(workers)}
    for job in served:
        for worker in options[job]:
            jobs[rank[worker]].add(job)
    return {job: workers[number] for number, job in _serve(jobs, len(served)).items()}


def _serve(options: Sequence[AbstractSet[int]], most: int) -> dict[int, int]:
    """Serves the first of those who ask first; ``most`` of them at most can be."""
    holders: dict[int, int] = {}
    served: dict[int, int] = {}
    lost: set[int] = set()  # from these no path leads to anything free, and none ever will
    for asker in range(len(options)):
        if len(served) == most:
            break
        seen: set[int] = set()
        came_from: dict[int, int] = {}
        free: int | None = None
        queue = [asker]
        for other in queue:
            fresh = options[other] - seen - lost
            free = min(fresh - holders.keys(), default=None)
            if free is not None:
                came_from[free] = other
                break
            seen |= fresh
            for thing in sorted(fresh):
                came_from[thing] = other
                queue.append(holders[thing])
        if free is None:
            lost |= seen
        while free is not None:
            other = came_from[free]
            holders[free] = other
            before = served.get(other)
            served[other] = free
            free = before
    return served
