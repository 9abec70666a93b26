from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("self_test_worker.py")
CHANGES = ["not averaged", "one rank differs", "another shape on one rank", "not a number", "in bf16",
           "another attribute", "step takes others"]  # fmt: skip
pytestmark = pytest.mark.multiprocess


def test_a_deepspeed_that_changed_under_us_stops_every_rank_with_a_line(check_ranks):
    for stdout in check_ranks(WORKER, 2, *CHANGES):
        lines = [line for line in stdout.splitlines() if line.startswith("RESULT ")]
        assert [line.split(" ", 1)[1].partition(":")[0] for line in lines] == CHANGES
        for line in lines:
            assert "does not hand over task gradients as gradient surgery needs them" in line
            assert "install the version in constraints.txt" in line


def test_deepspeed_as_it_is_passes(check_ranks):
    assert all("RESULT nothing: passed" in stdout for stdout in check_ranks(WORKER, 3, "nothing"))
