from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cerebros_spark.scheduler.priority_index import PriorityIndex


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 3))))
def test_items_are_in_the_order_of_their_last_priorities(moves):
    index: PriorityIndex[int] = PriorityIndex()
    expected: dict[int, int] = {}
    for item, priority in moves:
        if priority is None:
            index.discard(item)
            expected.pop(item, None)
        else:
            index.put(item, priority)
            expected[item] = priority
        order = sorted(expected, key=lambda item: (expected[item], item))
        assert list(index) == order
        assert [item in index for item in range(6)] == [item in expected for item in range(6)]
        some = set(order[::2])
        assert index.sort(some) == [item for item in order if item in some]
