from __future__ import annotations

import numpy as np
import pytest

from cerebros_spark.data.table.hashing import MAX_BUCKETS, choose_buckets, find_buckets


def test_a_bucket_is_the_hash_of_the_published_algorithm():
    # By tf.strings.to_hash_bucket_strong(values, 4096, HASH_KEY).
    values = ["", "a", "12345678", "123456789", "日本語", "x" * 63]
    assert find_buckets(values, 4096).tolist() == [1915, 3318, 188, 1275, 46, 2457]
    assert find_buckets(values, 1000).tolist() == [435, 646, 12, 451, 286, 889]


def test_values_are_spread_over_the_buckets():
    counts = np.bincount(find_buckets(map(str, range(40_000)), 1000), minlength=1000)
    assert len(counts) == 1000
    assert 10 < counts.min() < counts.max() < 80


@pytest.mark.parametrize(
    ("distinct", "known", "buckets"), [(12_000, 10_000, 250), (10**7, 10_000, MAX_BUCKETS)]
)
def test_there_are_no_more_buckets_than_categories(distinct, known, buckets):
    assert choose_buckets(distinct, known) == buckets


def test_an_estimate_below_the_known_ones_leaves_a_bucket():
    assert choose_buckets(9990, 10_000) == 1
