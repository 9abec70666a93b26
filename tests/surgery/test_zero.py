"""Combined gradients on ZeRO, by DeepSpeed itself on several ranks, against float64 and TorchJD's own aggregators."""

import importlib.util
import json
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("zero_worker.py")
SOLVERS = {"cagrad": "cvxpy", "upgrad": "quadprog", "dualproj": "quadprog", "nash_mtl": "ecos"}
METHODS = ["none", "pcgrad", "gradvac", "mgda", "imtl_g", "aligned_mtl", "cagrad", "upgrad", "dualproj", "nash_mtl",
           "tbgc"]  # fmt: skip
INSTALLED = [m for m in METHODS if m not in SOLVERS or importlib.util.find_spec(SOLVERS[m])]
pytestmark = pytest.mark.multiprocess


@pytest.fixture
def combine(check_ranks):
    def run(world, **case):
        arguments = [f"{key}={int(value) if isinstance(value, bool) else value}" for key, value in case.items()]
        return json.loads(check_ranks(WORKER, world, *arguments)[0].split("RESULT ")[1])

    return run


def check_steps(result):
    assert result["self_test_left_weights"], "the self-test moved a weight"
    assert result["same_weights"], "the ranks hold different weights"
    assert result["moved"] > 0
    assert result["skipped"] == [["a", "b", "c"], ["b"]], "what one rank spoiled was not left out on all"


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)])
def test_every_method_is_exact_in_fp32(combine, world, accumulate):
    result = combine(world, accumulate=accumulate, methods=",".join(INSTALLED))
    check_steps(result)
    assert result["plain"] < 1e-5, "one process without DeepSpeed takes other steps"
    if accumulate == 1:
        # Several backwards before a step: DeepSpeed by itself keeps the last one and loses the rest, without a word.
        assert result["alone_is_last"] < 1e-5
        assert result["alone_is_sum"] > 0.1
    assert result["without"] <= 1e-6
    for method in INSTALLED:
        found = result[method]
        assert not found["failed"]
        assert found["conflicts"] > 0, "the batches do not conflict, so nothing was tested"
        for figure in ("combined", "heads", "gram", "norm"):
            assert found[figure] <= 1e-6, (method, figure)
        if method != "tbgc":  # TorchJD does not have it
            assert found["torchjd"] <= 1e-6, method


@pytest.mark.parametrize(
    "case",
    [
        {"overlap": True},
        {"overlap": True, "accumulate": 2, "groups": 1},
        {"off": "use_multi_rank_bucket_allreduce"},
        {"off": "reduce_scatter,contiguous_gradients"},
        {"stage": 1},
        {"stage": 1, "overlap": True, "accumulate": 2},
        {"offload": True},
        {"offload": True, "accumulate": 2, "overlap": True},
        {"scope": "block"},
        {"scope": "block", "offload": True, "groups": 3},
    ],
    ids=str,
)
def test_other_engines_give_the_same_numbers(combine, case):
    result = combine(2, methods="none,pcgrad,mgda", **case)
    check_steps(result)
    assert result["plain"] < 1e-5
    assert result["without"] <= 1e-6
    for method in ("none", "pcgrad", "mgda"):
        for figure in ("combined", "heads", "gram", "norm"):
            assert result[method][figure] <= 1e-6, (method, figure)


@pytest.mark.parametrize(
    "case",
    [
        {"precision": "bf16"},
        {"precision": "bf16", "overlap": True, "accumulate": 2},
        {"precision": "bf16", "offload": True},
        {"precision": "autocast"},
        {"precision": "autocast_bf16_traffic", "overlap": True, "accumulate": 2},
    ],
    ids=str,
)
def test_in_bf16_the_gradients_are_rounded_and_their_combination_is_not(combine, case):
    result = combine(2, methods=",".join(INSTALLED), **case)
    check_steps(result)
    for method in INSTALLED:
        found = result[method]
        assert found["combination"] <= 1e-6, method
        assert found["norm"] <= 1e-6, method
        assert 1e-5 < found["combined"] < 0.05, "bf16 played no part"
