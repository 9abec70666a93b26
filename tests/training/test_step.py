import json
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name("step_worker.py")
pytestmark = pytest.mark.multiprocess


@pytest.fixture(scope="module")
def results():
    return {}


@pytest.fixture
def step(check_ranks, results):
    """The result of one real step on two ranks; each kind is run once."""

    def run(checkpointing, precision):
        if (checkpointing, precision) not in results:
            stdout = check_ranks(WORKER, 2, checkpointing, precision)[0]
            results[checkpointing, precision] = json.loads(stdout.split("RESULT ")[1])
        return results[checkpointing, precision]

    return run


@pytest.mark.parametrize("method", ["torch", "fairscale", "deepspeed"])
def test_every_checkpointing_gives_the_gradients_of_none_in_a_real_step(step, method):
    if method == "fairscale":
        pytest.importorskip("fairscale")
    plain, found = step("none", "fp32"), step(method, "fp32")
    assert found["losses"] == plain["losses"]
    torch.testing.assert_close(torch.tensor(found["gram"]), torch.tensor(plain["gram"]), rtol=1e-5, atol=1e-8)
    assert found["norm"] == pytest.approx(plain["norm"], rel=1e-5)
    assert found["same"], "the ranks hold different weights"


def test_bf16_steps_near_fp32_and_keeps_fp32_weights(step):
    plain, found = step("none", "fp32"), step("torch", "bf16")
    assert found["losses"] != plain["losses"], "nothing was computed in bf16"
    for task, loss in plain["losses"].items():
        assert found["losses"][task] == pytest.approx(loss, rel=0.05)
    assert found["dtypes"] == ["torch.float32"] and found["same"]
