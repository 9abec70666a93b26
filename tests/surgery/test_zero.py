import json
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("zero_worker.py")


@pytest.mark.multiprocess
@pytest.mark.parametrize(("world", "overlap"), [(1, False), (2, False), (2, True)])
def test_combined_gradient_on_zero2_is_that_of_float64_autograd(check_ranks, world, overlap):
    stdout = check_ranks(WORKER, world, *(["overlap"] if overlap else []))[0]
    result = json.loads(stdout.split("RESULT ")[1])
    # Several backwards before a step: DeepSpeed by itself keeps the last one and loses the rest, without a word.
    assert result["alone_is_last"] < 1e-5
    assert result["alone_is_sum"] > 0.1
    for method in ("none", "pcgrad"):
        assert result[method] <= 1e-6
        assert result[method + "_heads"] <= 1e-6
        assert result[method + "_gram"] <= 1e-6
    assert result["pcgrad_conflicts"] > 0, "the batches do not conflict, so nothing was tested"
    assert result["same_weights"]
    assert result["norm"] > 0
