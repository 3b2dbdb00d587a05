from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cerebros_spark.scheduler.priority_index import Ranking


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 3))))
def test_things_are_told_by_their_last_ranks(moves):
    ranking: Ranking[int] = Ranking()
    wanted: dict[int, int] = {}
    for thing, rank in moves:
        if rank is None:
            ranking.discard(thing)
            wanted.pop(thing, None)
        else:
            ranking.put(thing, rank)
            wanted[thing] = rank
        order = sorted(wanted, key=lambda thing: (wanted[thing], thing))
        assert list(ranking) == order
        assert [thing in ranking for thing in range(6)] == [thing in wanted for thing in range(6)]
        some = set(order[::2])
        assert ranking.sorted(some) == [thing for thing in order if thing in some]
