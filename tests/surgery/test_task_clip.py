"""Each task's gradient clipped by itself: factors from the Gram matrix, against clipped gradients in float64."""

import importlib.util

import pytest
import torch
from torch import nn

from ufo_ds.columns import flatten
from ufo_ds.errors import UserError
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.clipping import clip_factors
from ufo_ds.surgery.gram_weightings import GRAM_METHODS
from ufo_ds.surgery.loss_weightings import LOSS_METHODS
from ufo_ds.surgery.methods import make_weighting
from ufo_ds.surgery.plain import PlainGradients
from ufo_ds.surgery.task_gradients import SHARED, TaskGradients

TASKS = ["a", "b", "c"]
SCALES = (0.5, 2.0, 9.0)
SOLVERS = {"cagrad": "cvxpy", "upgrad": "quadprog", "dualproj": "quadprog"}
GRAM = [name for name in GRAM_METHODS if name not in SOLVERS or importlib.util.find_spec(SOLVERS[name])]


class Setting:
    """Two shared blocks in float64, and linear losses: their gradients are known rows."""

    def __init__(self, **config):
        self.trunk = [nn.Parameter(torch.zeros(size, dtype=torch.float64)) for size in (5, 7)]
        self.optimizer = torch.optim.SGD([{"params": self.trunk, SHARED: True}], lr=1.0)
        self.config = SurgeryConfig(**config)
        depth = {self.trunk[0]: "block 0", self.trunk[1]: "block 1"}
        self.gradients = TaskGradients(PlainGradients(self.optimizer), TASKS, self.config, 3, depth)

    def rows(self, step=1):
        """float64 [T, 12]."""
        generator = torch.Generator().manual_seed(step)
        return torch.randn(3, 12, generator=generator, dtype=torch.float64) * torch.tensor(SCALES)[:, None]

    def run(self, step=1):
        """The combined gradient, float64 [12], and the findings."""
        rows = self.rows(step)
        for task, row in zip(TASKS, rows, strict=True):
            self.gradients.backward(task, row @ torch.cat(self.trunk))
        findings = self.gradients.combine()
        found = torch.cat([parameter.grad for parameter in self.trunk])
        self.gradients.observe(dict.fromkeys(TASKS, 1.0))
        return found, findings


def clipped(rows, limit):
    norms = rows.norm(dim=1, keepdim=True)
    return torch.where(norms > limit, rows * limit / norms, rows)


def combined(config, rows, draw):
    """What the method makes of gradients that are given to it clipped."""
    weights = make_weighting(config, TASKS).weights(rows @ rows.T, draw)
    return weights @ rows


@pytest.mark.parametrize("method", GRAM)
def test_a_method_combines_the_clipped_gradients(method):
    setting = Setting(method=method, task_clip=3.0)
    found, findings = setting.run()
    expected = combined(SurgeryConfig(method=method), clipped(setting.rows(), 3.0), "surgery 3 1")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    assert (setting.rows().norm(dim=1) > 3.0).tolist() == [False, True, True]
    assert findings.clip[0, 0] == 1.0 and (findings.clip[0, 1:] < 1).all()


@pytest.mark.parametrize("method", LOSS_METHODS)
def test_methods_on_the_losses_weigh_clipped_gradients(method):
    weights = {"a": 1.0, "b": 2.0, "c": 0.5} if method == "static" else {}
    setting = Setting(method=method, task_clip=3.0, static_weights=weights)
    plain = Setting(method=method, static_weights=weights).run()[1].weights[0]
    found, findings = setting.run()
    torch.testing.assert_close(findings.weights[0], plain, rtol=0, atol=0)
    torch.testing.assert_close(found, plain @ clipped(setting.rows(), 3.0), rtol=1e-6, atol=1e-7)


def test_under_scope_block_each_block_is_clipped_by_its_own_norm():
    setting = Setting(method="mgda", scope="block", task_clip=3.0)
    found, findings = setting.run()
    for block, part in enumerate((slice(0, 5), slice(5, 12))):
        rows = clipped(setting.rows()[:, part], 3.0)
        draw = "surgery 3 1" + (f" {block}" if block else "")
        expected = combined(SurgeryConfig(method="mgda"), rows, draw)
        torch.testing.assert_close(found[part], expected, rtol=1e-6, atol=1e-7)
    assert findings.clip.shape == (2, 3)


def test_between_gram_matrices_the_factors_stay_with_the_weights():
    setting = Setting(method="pcgrad", every=2, task_clip=3.0)
    _, first = setting.run(1)
    found, second = setting.run(2)
    assert second.clip is None and "clip" not in second.as_record()
    torch.testing.assert_close(found, first.weights[0] @ setting.rows(2), rtol=1e-6, atol=1e-7)


def test_a_limit_that_nothing_reaches_changes_no_bit_and_zero_is_off():
    plain, _ = Setting(method="cagrad" if "cagrad" in GRAM else "mgda").run()
    high, findings = Setting(method="cagrad" if "cagrad" in GRAM else "mgda", task_clip=1e9).run()
    assert torch.equal(plain, high) and (findings.clip == 1).all()
    assert Setting().run()[1].clip is None


@pytest.mark.parametrize("keys", [{"tbgc_clip": 3.0}, {"task_clip": 3.0}, {"tbgc_clip": 3.0, "task_clip": 50.0}])
def test_the_clip_of_tbgc_is_the_same(keys):
    setting = Setting(method="tbgc", **keys)
    rows = clipped(setting.rows(), 3.0)
    norms = rows.norm(dim=1, keepdim=True)
    torch.testing.assert_close(setting.run()[0], (rows / norms * norms.mean()).sum(0), rtol=1e-6, atol=1e-7)
    assert Setting(method="pcgrad", tbgc_clip=3.0).run()[1].clip is None


def test_the_log_has_the_factors_and_the_norms_before_them():
    setting = Setting(method="pcgrad", task_clip=3.0)
    record = setting.run()[1].as_record()
    norms = setting.rows().norm(dim=1)
    for task, norm in zip(TASKS, norms.tolist(), strict=True):
        assert record["grad_norm"][task] == pytest.approx(norm, rel=1e-6)
        assert record["clip"][task] == pytest.approx(min(1.0, 3.0 / norm), rel=1e-6)
    assert flatten({"surgery": record})["surgery/clip/c"] == record["clip"]["c"]


def test_a_task_without_a_gradient_has_the_factor_one():
    assert clip_factors(torch.zeros(1, 2, 2, dtype=torch.float64), 2.0).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("every", [0, 2])
def test_methods_on_the_losses_need_the_norms_of_each_step(every):
    with pytest.raises(UserError, match=r"surgery\.task_clip.*surgery\.every to 1"):
        Setting(method="none", every=every, task_clip=1.0)
