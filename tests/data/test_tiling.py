"""Windows cover a side from end to end, and their weights are a partition of unity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufo_ds.data.tiling import blend_weights, window_starts

SIDES = st.tuples(st.integers(1, 400), st.integers(1, 200), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.75]))


@given(SIDES)
def test_windows_cover_the_side_and_overlap_enough(case):
    length, window, overlap = case
    starts = window_starts(length, window, overlap)
    assert starts[0] == 0 and (len(starts) == 1 or starts[-1] + window == length)
    assert len(starts) > 1 or window >= length
    steps = np.diff(starts)
    assert (steps > 0).all() and (steps <= max(1, window * (1 - overlap)) + 1).all()


@given(SIDES)
def test_weights_sum_to_one_at_every_pixel(case):
    length, window, overlap = case
    window = min(window, length)
    starts = window_starts(length, window, overlap)
    total = np.zeros(length)
    for start, weight in zip(starts, blend_weights(starts, window, length), strict=True):
        assert (weight > 0).all()
        total[start : start + window] += weight
    assert np.abs(total - 1).max() < 1e-12


def test_where_one_window_is_alone_it_counts_wholly():
    starts = window_starts(250, 100, 0.2)
    assert starts == [0, 75, 150]
    weights = blend_weights(starts, 100, 250)
    assert (weights[0, :75] == 1).all() and (weights[2, -75:] == 1).all()
    assert weights[0, 99] == pytest.approx(0, abs=2e-3), "it fades out to its end"
    assert (np.diff(weights[0, 75:]) < 0).all()
