"""Ranks that must agree."""

from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("agree_worker.py")


@pytest.mark.multiprocess
@pytest.mark.parametrize(("values", "said"), [
    (("a", "a"), "agreed"),
    (("a", "b"), "the shards of here differ between the ranks; give all machines the same, and start again"),
])  # fmt: skip
def test_every_rank_learns_whether_all_have_the_same(check_ranks, values, said):
    assert check_ranks(WORKER, 2, *values) == [f"{said}\n"] * 2
