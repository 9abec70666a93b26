from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("self_test_worker.py")
pytestmark = pytest.mark.multiprocess


@pytest.mark.parametrize(
    "change",
    ["not averaged", "one rank differs", "another shape on one rank", "not a number", "in bf16", "another attribute",
     "step takes others"],
)  # fmt: skip
def test_a_deepspeed_that_changed_under_us_stops_every_rank_with_a_line(check_ranks, change):
    for stdout in check_ranks(WORKER, 2, change):
        line = stdout.split("RESULT ")[1]
        assert "does not hand over task gradients as gradient surgery needs them" in line
        assert "install the version in constraints.txt" in line


def test_deepspeed_as_it_is_passes(check_ranks):
    assert all("RESULT passed" in stdout for stdout in check_ranks(WORKER, 3, "nothing"))
