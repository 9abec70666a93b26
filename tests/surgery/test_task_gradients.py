"""The bookkeeping of a step, in one process on plain torch gradients."""

import json

import pytest
import torch
from torch import nn

from ufo_ds.errors import UserError
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.plain import PlainGradients
from ufo_ds.surgery.task_gradients import SHARED, TaskGradients

TASKS = ["a", "b", "c"]


class Setting:
    """Two shared layers (the blocks), a head a task, and linear losses with given gradients."""

    def __init__(self, seed=0, lr=0.1, **config):
        torch.manual_seed(seed)
        self.trunk = nn.ParameterDict({"one": nn.Parameter(torch.randn(6)), "two": nn.Parameter(torch.randn(3, 2))})
        self.heads = nn.ParameterDict({task: nn.Parameter(torch.randn(2)) for task in TASKS})
        groups = [{"params": list(self.trunk.values()), SHARED: True}, {"params": list(self.heads.values())}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr)
        depth = {self.trunk["one"]: "block 0", self.trunk["two"]: "block 1"}
        self.gradients = TaskGradients(PlainGradients(self.optimizer), TASKS, SurgeryConfig(**config), 7, depth)

    def loss(self, task, step):
        generator = torch.Generator().manual_seed(10 * step + TASKS.index(task))
        curve = sum(
            ((p - 2 * torch.randn(p.shape, generator=generator)) ** 2).mean()
            for p in [*self.trunk.values(), self.heads[task]]
        )
        return curve * (1 + TASKS.index(task))

    def run(self, step, micro_batches=1):
        losses = {}
        for task in TASKS:
            loss = self.loss(task, step)
            losses[task] = float(loss.detach())
            for micro in range(micro_batches):
                part = self.loss(task, step) / micro_batches
                self.gradients.backward(task, part, last=micro == micro_batches - 1)
        findings = self.gradients.combine()
        self.optimizer.step()
        self.gradients.observe(losses)
        return findings

    def weights(self):
        return torch.cat([p.detach().flatten() for p in [*self.trunk.values(), *self.heads.values()]])


def test_micro_batches_add_up_to_the_batch():
    one, two = Setting(), Setting()
    for step in (1, 2):
        one.run(step)
        two.run(step, micro_batches=2)
    torch.testing.assert_close(one.weights(), two.weights())


@pytest.mark.parametrize("method", ["none", "pcgrad", "gradvac", "mgda", "random", "uncertainty", "famo"])
@pytest.mark.parametrize("scope", ["trunk", "block"])
@pytest.mark.parametrize("every", [1, 3])
def test_a_resumed_run_goes_on_with_the_same_weights_to_the_bit(method, scope, every):
    whole = Setting(method=method, scope=scope, every=every)
    for step in range(1, 8):
        whole.run(step)
        if step == 4:
            saved = json.loads(json.dumps(whole.gradients.state()))
            weights, moments = whole.weights(), whole.optimizer.state_dict()
            resumed = Setting(seed=99, method=method, scope=scope, every=every)
            with torch.no_grad():
                for mine, theirs in zip(
                    [*resumed.trunk.values(), *resumed.heads.values()],
                    [*whole.trunk.values(), *whole.heads.values()],
                    strict=True,
                ):
                    mine.copy_(theirs)
            import copy

            resumed.optimizer.load_state_dict(copy.deepcopy(moments))
            resumed.gradients.restore(saved)
            assert torch.equal(resumed.weights(), weights)
    for step in range(5, 8):
        resumed.run(step)
    assert torch.equal(resumed.weights(), whole.weights())


def test_between_gram_matrices_the_weights_stay_and_no_task_gradients_are_kept():
    setting = Setting(method="mgda", every=3)
    weights = []
    for step in range(1, 8):
        for task in TASKS:
            setting.gradients.backward(task, setting.loss(task, step))
            kept = len(setting.gradients._parts)
            assert kept == (TASKS.index(task) + 1 if step in (1, 4, 7) else 0)
        findings = setting.gradients.combine()
        assert ("cosine" in findings.as_record()) == (step in (1, 4, 7))
        weights.append(findings.weights[0].tolist())
        setting.optimizer.step()
    assert weights[0] == weights[1] == weights[2] != weights[3] == weights[4]


def test_between_gram_matrices_the_old_weights_are_those_that_combine():
    often, seldom = Setting(method="tbgc"), Setting(method="tbgc", every=2)
    often.run(1), seldom.run(1)
    assert torch.equal(often.weights(), seldom.weights())
    weights = seldom.gradients.weights_ST[0]
    rows = [torch.autograd.grad(seldom.loss(t, 2), list(seldom.trunk.values())) for t in TASKS]
    for task in TASKS:
        seldom.gradients.backward(task, seldom.loss(task, 2))
    seldom.gradients.combine()
    for k, parameter in enumerate(seldom.trunk.values()):
        expected = sum(float(w) * row[k] for w, row in zip(weights, rows, strict=True))
        torch.testing.assert_close(parameter.grad, expected)


@pytest.mark.parametrize("every", [1, 2])
def test_a_block_is_combined_by_its_own_gram_matrix(every):
    setting = Setting(method="mgda", scope="block", every=every)
    found = []
    for step in (1, 2):
        rows = [torch.autograd.grad(setting.loss(t, step), list(setting.trunk.values())) for t in TASKS]
        for task in TASKS:
            setting.gradients.backward(task, setting.loss(task, step))
        findings = setting.gradients.combine()
        found.append(findings.weights)
        for k, parameter in enumerate(setting.trunk.values()):
            expected = sum(float(w) * row[k] for w, row in zip(findings.weights[k], rows, strict=True))
            torch.testing.assert_close(parameter.grad, expected)
        setting.optimizer.step()
    assert found[0].shape == (2, 3) and not torch.equal(found[0][0], found[0][1])
    assert torch.equal(found[0], found[1]) == (every == 2)


def test_blocks_are_logged_on_request_and_add_up():
    record = Setting(log_blocks=True).run(1).as_record()
    blocks = record["blocks"]
    assert blocks["names"] == ["block 0", "block 1"] and blocks["pairs"] == ["a-b", "a-c", "b-c"]
    assert "weights" not in blocks and "blocks" not in Setting().run(1).as_record()
    for task in TASKS:
        squares = sum(norm**2 for norm in blocks["grad_norm"][task])
        assert squares == pytest.approx(record["grad_norm"][task] ** 2)
    assert len(Setting(scope="block").run(1).as_record()["blocks"]["weights"]) == 2


def test_weights_on_the_losses_reach_the_heads_and_the_log_speaks_of_gradients_without_them():
    static = {"a": 1.0, "b": 2.0, "c": 6.0}
    weighted, plain = Setting(method="static", static_weights=static), Setting(method="none")
    ours, theirs = weighted.run(1).as_record(), plain.run(1).as_record()
    assert ours["weights"] == pytest.approx([1 / 3, 2 / 3, 2.0])
    for figure in ("grad_norm", "cosine"):
        assert json.dumps(ours[figure])[:20]  # both are there
    for task in TASKS:
        assert ours["grad_norm"][task] == pytest.approx(theirs["grad_norm"][task], rel=1e-5)
        factor = 3 * static[task] / 9
        torch.testing.assert_close(weighted.heads[task].grad, factor * plain.heads[task].grad)


def test_no_gram_matrix_at_all_for_a_weighting_on_the_losses():
    setting = Setting(method="uncertainty", every=0)
    record = setting.run(1).as_record()
    assert set(record) == {"tasks", "weights"}
    with pytest.raises(UserError, match=r"'surgery\.every' is 0; pcgrad needs a Gram matrix"):
        Setting(method="pcgrad", every=0)


def test_a_failing_method_takes_the_plain_sum_and_says_so(monkeypatch):
    from ufo_ds.surgery.gram_weightings import GramWeighting
    from ufo_ds.surgery.weighting import SolverError

    def fail(self, gram_TT, draw):
        raise SolverError("no")

    setting = Setting(method="mgda")
    monkeypatch.setattr(GramWeighting, "weights", fail)
    record = setting.run(1).as_record()
    assert record["solver_failed"] and record["weights"] == [1.0, 1.0, 1.0]
    plain = Setting(method="none")
    plain.run(1)
    assert torch.equal(setting.weights(), plain.weights())


def test_a_task_that_was_left_out_or_came_twice_is_noticed():
    setting = Setting()
    setting.gradients.backward("a", setting.loss("a", 1))
    with pytest.raises(AssertionError, match="a second gradient of a"):
        setting.gradients.backward("a", setting.loss("a", 1))
    with pytest.raises(AssertionError, match="no gradient of"):
        setting.gradients.combine()


# ---- a task whose loss or gradient is not finite ----


def spoil(setting, monkeypatch, task, kind):
    """From now on the loss of a task is not finite, or its gradient on one parameter of the trunk or of its head."""
    loss = setting.loss

    def spoiled(name, step):
        value = loss(name, step)
        if name != task:
            return value
        if kind == "loss":
            return value * float("inf")
        parameter = setting.heads[task] if kind == "head" else setting.trunk["two"]
        return value + (parameter.flatten()[0] * 0).sqrt()  # 0, with a derivative of 0 * inf

    monkeypatch.setattr(setting, "loss", spoiled)


@pytest.mark.parametrize("kind", ["loss", "head", "trunk"])
@pytest.mark.parametrize("options", [
    {"method": "pcgrad"}, {"method": "none"}, {"method": "none", "every": 0}, {"method": "mgda", "every": 2},
    {"method": "upgrad", "scope": "block"}, {"method": "famo"},
], ids=str)  # fmt: skip
def test_a_step_is_taken_without_a_task_that_is_not_finite(monkeypatch, kind, options):
    """As if its gradient were zero, on the trunk and on its own parameters; the next step is whole again."""
    setting, other = Setting(**options), Setting(**options)
    setting.run(1), other.run(1)
    with monkeypatch.context() as patch:
        spoil(setting, patch, "b", kind)
        patch.setattr(other, "loss", lambda task, step: Setting.loss(other, task, step) * (task != "b"))
        findings, expected = setting.run(2), other.run(2)
    assert findings.skipped == ["b"] and not findings.empty and expected.skipped == []
    record = json.loads(json.dumps(findings.as_record(), allow_nan=False))
    assert record["skipped"] == ["b"] and record["weights"][1] == 0
    if "grad_norm" in record:
        assert record["grad_norm"]["b"] is None
    assert bool(setting.weights().isfinite().all())
    if not setting.gradients.on_losses or options["method"] == "none":  # FAMO does not see those losses
        torch.testing.assert_close(setting.weights(), other.weights())
    assert setting.run(3).skipped == []
    assert bool(setting.weights().isfinite().all())


def test_where_no_task_is_left_there_is_no_gradient(monkeypatch):
    setting = Setting()
    for task in TASKS:
        spoil(setting, monkeypatch, task, "loss")
    for task in TASKS:
        setting.gradients.backward(task, setting.loss(task, 1))
    findings = setting.gradients.combine()
    assert findings.empty and findings.skipped == TASKS
    assert all(p.grad is None for group in setting.optimizer.param_groups for p in group["params"])


def test_one_broken_micro_batch_breaks_the_task():
    setting = Setting()
    for task in TASKS:
        bad = float("nan") if task == "c" else 1.0
        setting.gradients.backward(task, setting.loss(task, 1) * bad, last=False)
        setting.gradients.backward(task, setting.loss(task, 1), last=True)
    assert setting.gradients.combine().skipped == ["c"]
