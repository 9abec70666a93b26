"""The order: permutations, balance, independence of seeds, tasks and epochs, and values that may never change."""

import pickle
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufo_ds.data.order import Order, balanced, shuffled

sizes = st.lists(st.integers(1, 12), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, window=st.integers(1, 12), epoch=st.integers(0, 3))
def test_shuffled_is_a_permutation_that_reads_few_shards_at_a_time(sizes, window, epoch):
    order = shuffled(sizes, 7, "cls", epoch, window)
    assert order.dtype == np.int64 and sorted(order) == list(range(sum(sizes)))
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[order]
    runs = [shard for i, shard in enumerate(shard_of) if i == 0 or shard not in shard_of[:i]]
    for first in range(0, len(runs), window):
        places = np.flatnonzero(np.isin(shard_of, runs[first : first + window]))
        assert (np.diff(places) == 1).all(), "a window's samples stand together"


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(-3, 40), min_size=1, max_size=80), epoch=st.integers(0, 3))
def test_balanced_draws_every_class_equally_often_and_every_sample_in_turn(labels, epoch):
    order = balanced(labels, 7, "cls", epoch)
    assert order.dtype == np.int64 and len(order) == len(labels)
    drawn = Counter(labels[i] for i in order)
    assert set(drawn) == set(labels) and max(drawn.values()) - min(drawn.values()) <= 1
    times = Counter(order.tolist())
    for label in set(labels):
        own = [times[i] for i in range(len(labels)) if labels[i] == label]
        assert max(own) - min(own) <= 1
    classes = len(drawn)
    for first in range(0, len(labels) - classes + 1, classes):
        assert len({labels[i] for i in order[first : first + classes]}) == classes


@pytest.mark.parametrize(
    "order",
    [partial(shuffled, [30, 30, 40], window=2), partial(balanced, list(range(10)) * 10)],
    ids=["shuffled", "balanced"],
)
def test_seeds_tasks_and_epochs_have_orders_of_their_own(order):
    plain = order(0, "cls", 0)
    assert (plain == order(0, "cls", 0)).all()
    for other in (order(1, "cls", 0), order(0, "det", 0), order(0, "cls", 1), order(-1, "cls", 0)):
        assert (plain != other).any()


def test_orders_are_those_of_every_machine_and_version():
    assert shuffled([3, 4, 2], 0, "cls", 0, 2).tolist() == [8, 6, 7, 5, 4, 3, 2, 0, 1]
    assert shuffled([3, 4, 2], 5, "seg", 12, 1).tolist() == [3, 5, 4, 6, 2, 1, 0, 8, 7]
    assert balanced([4, 4, 4, 4, 4, 9, 9, 6], 0, "cls", 3).tolist() == [6, 7, 1, 5, 7, 3, 7, 6]


def test_the_order_is_the_epochs_one_after_the_other():
    order = Order(10, partial(shuffled, [4, 6], 3, "det", window=2))
    expected = np.concatenate([shuffled([4, 6], 3, "det", epoch, 2) for epoch in range(5)])
    assert [order.index(p) for p in range(50)] == expected.tolist()
    assert [order.index(p) for p in (49, 3, 12, 3, 48)] == expected[[49, 3, 12, 3, 48]].tolist()
    assert order.locate(23) == (2, 3)
    assert len(order._epochs) <= Order.KEPT
    copy = pickle.loads(pickle.dumps(order))
    assert not copy._epochs and copy.index(31) == expected[31]
