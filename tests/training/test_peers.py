"""A rank that dies, fails or leaves, for real; the others must neither hang nor trace."""

import time
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("peers_worker.py")
pytestmark = pytest.mark.multiprocess


def errors(results):
    return [line for _, _, stderr in results for line in stderr.splitlines() if "error" in line.lower()]


@pytest.mark.parametrize("who", [0, 1])
def test_a_killed_rank_ends_the_others_with_one_line(start_ranks, who):
    began = time.monotonic()
    results = start_ranks(WORKER, 3, "killed", who, timeout=60)
    assert time.monotonic() - began < 60, "the others waited"
    assert [status for status, _, _ in results] == [-9 if rank == who else 3 for rank in range(3)]
    said = errors(results)
    assert len(said) == 1, said
    assert said[0].startswith(f"error: rank {who} of 3 died in step 7 (killed, out of memory, or its machine is gone)")
    assert "--resume goes on from the last checkpoint" in said[0]


@pytest.mark.parametrize("who", [0, 2])
def test_a_rank_that_fails_speaks_for_itself(start_ranks, who):
    results = start_ranks(WORKER, 3, "fails", who, timeout=60)
    assert [status for status, _, _ in results] == [2, 2, 2]
    assert errors(results) == [f"error{f' (rank {who})' if who else ''}: this rank's shard is gone; bring it back"]


def test_a_rank_that_is_through_is_no_news(start_ranks):
    results = start_ranks(WORKER, 3, "leaves", 1, timeout=60)
    assert [(status, stdout) for status, stdout, _ in results] == [(0, "not asked\n"), (0, ""), (0, "not asked\n")]


@pytest.mark.parametrize("who", [0, 2])
def test_a_request_to_stop_reaches_every_rank(start_ranks, who):
    results = start_ranks(WORKER, 3, "stops", who, timeout=60)
    assert [(status, stdout) for status, stdout, _ in results] == [(0, "asked\n")] * 3
