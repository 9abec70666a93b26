"""The ways that benchmarks/surgery.py compares take the same step, or it would compare nothing."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from surgery_engines import ENGINES, Model, Plain, make_batches


@pytest.fixture(scope="module")
def setting():
    torch.manual_seed(0)
    model = Model("vit_tiny_patch16_224", 2, False)
    batches = make_batches(2, 1, 0, "cpu")
    batches[1] = (batches[0][0], (batches[0][1] + 1) % 10)  # another label for the same image: a conflict
    model.heads[1].load_state_dict(model.heads[0].state_dict())
    return model, batches


def step_of(engine, setting):
    """How one step moves the weights; Adam with an eps this large is plain descent, as comparisons want it."""
    model, batches = copy.deepcopy(setting[0]), setting[1]
    made = engine(model, batches)
    for group in made.optimizer.param_groups:
        group.update(lr=1e5, weight_decay=0.0, eps=1e6)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    made.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]) - before


@pytest.mark.parametrize("name", [name for name in ENGINES if "ZeRO" not in name and "plain" not in name])
def test_every_way_takes_the_same_step_and_not_the_plain_one(setting, name):
    expected, plain = step_of(ENGINES["ours, no DeepSpeed"], setting), step_of(Plain, setting)
    found = step_of(ENGINES[name], setting)
    assert (found - expected).norm() <= 1e-3 * expected.norm()
    assert (plain - expected).norm() > 1e-2 * expected.norm()
