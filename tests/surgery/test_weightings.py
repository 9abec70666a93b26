"""Every weighting over random Gram matrices, and against what its paper or TorchJD says."""

import importlib.util
import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ufo_ds.errors import UserError
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.gram_weightings import GRAM_METHODS
from ufo_ds.surgery.loss_weightings import LOSS_METHODS
from ufo_ds.surgery.methods import make_weighting
from ufo_ds.surgery.weighting import SolverError, drawn

SOLVERS = {"cagrad": "cvxpy", "upgrad": "quadprog", "dualproj": "quadprog"}


def installed(method):
    missing = method in SOLVERS and importlib.util.find_spec(SOLVERS[method]) is None
    return pytest.param(method, marks=pytest.mark.skipif(missing, reason=f"{SOLVERS.get(method)} is not installed"))


GRAM = [installed(method) for method in GRAM_METHODS]
names = list("abcdefgh")


def weigh(method, jacobian, draw="x", **options):
    weighting = make_weighting(SurgeryConfig(method=method, **options), names[: len(jacobian)])
    return weighting.weights(jacobian @ jacobian.T, draw)


@st.composite
def jacobians(draw, tasks=None):
    """Rows that are random, zero, parallel, opposed, tiny or huge."""
    count = tasks or draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    width = draw(st.integers(1, 8))
    rows = torch.randn(count, width, generator=generator, dtype=torch.float64)
    for i in range(count):
        kind = draw(st.sampled_from(["random", "random", "zero", "parallel", "opposed", "tiny", "huge"]))
        if kind == "zero":
            rows[i] = 0
        elif kind in ("parallel", "opposed"):
            rows[i] = rows[0] * (2.0 if kind == "parallel" else -1.0)
        elif kind in ("tiny", "huge"):
            rows[i] *= 1e-12 if kind == "tiny" else 1e12
    return rows


@pytest.mark.parametrize("method", GRAM)
@settings(max_examples=60, deadline=None)
@given(jacobian=jacobians())
def test_weights_are_finite_and_a_task_without_a_gradient_has_weight_one(method, jacobian):
    try:
        weights = weigh(method, jacobian)
    except SolverError:
        return  # the run then takes the plain sum, and says so
    assert weights.shape == (len(jacobian),) and bool(weights.isfinite().all())
    assert bool(((weights @ jacobian).isfinite()).all())
    assert weights[jacobian.square().sum(1) == 0].tolist() == [1.0] * int((jacobian.square().sum(1) == 0).sum())


@pytest.mark.parametrize("method", GRAM)
def test_solvers_hardly_ever_give_up_on_the_extremes(method):
    """The test above lets a failing solver pass; so that it is not all that happens."""
    torch.manual_seed(0)
    base = torch.randn(3, 6, dtype=torch.float64)
    cases = [base, base * 1e-15, base * 1e15, base.clone(), base.clone(), base.clone(), torch.zeros_like(base)]
    cases[3][1] = cases[3][0]
    cases[4][1] = -cases[4][0]
    cases[5][2] = 0
    for case in cases:
        assert bool(weigh(method, case).isfinite().all())


@pytest.mark.parametrize("method", [m for m in GRAM if m.values[0] not in ("pcgrad", "gradvac")])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(4)))
def test_a_permutation_of_the_tasks_permutes_the_weights(method, seed, order):
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(4, 12, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(weigh(method, jacobian[order]), weigh(method, jacobian)[order], rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.permutations(range(2)))
def test_a_permutation_permutes_pcgrad_where_its_random_order_plays_no_part(seed, order):
    jacobian = torch.randn(2, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for method in ("pcgrad", "gradvac"):
        torch.testing.assert_close(weigh(method, jacobian[order]), weigh(method, jacobian)[order])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 6))
def test_pcgrad_of_agreeing_gradients_is_their_plain_sum(seed, count):
    jacobian = torch.rand(count, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert weigh("pcgrad", jacobian).tolist() == [1.0] * count
    assert weigh("gradvac", jacobian).tolist() == [1.0] * count


@pytest.mark.parametrize("method", [*GRAM, *sorted(set(LOSS_METHODS) - {"random"})])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("norm", [1e-6, 1.0, 1e4])
def test_orthogonal_gradients_of_one_norm_get_ones_so_methods_share_a_scale(method, count, norm):
    tasks = names[:count]
    config = SurgeryConfig(method=method, static_weights=dict.fromkeys(tasks, 0.3))
    gram = norm**2 * torch.eye(count, dtype=torch.float64)
    weights = make_weighting(config, tasks).weights(gram, "x")
    torch.testing.assert_close(weights, torch.ones(count, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_pcgrad_of_three_is_one_of_the_paper_s_orders_and_repeats_by_name():
    torch.manual_seed(0)
    gradients = torch.randn(3, 4, dtype=torch.float64)
    gradients[2] = -gradients[0] - gradients[1] + 0.1 * torch.randn(4)
    orders = list(itertools.permutations(range(3)))
    possible = [pcgrad_by_hand(list(gradients), choice) for choice in itertools.product(orders, repeat=3)]
    seen = set()
    for step in range(40):
        state = torch.get_rng_state()
        weights = weigh("pcgrad", gradients, f"surgery 0 {step}")
        assert torch.equal(state, torch.get_rng_state()), "the training's own generator was touched"
        assert torch.equal(weights, weigh("pcgrad", gradients, f"surgery 0 {step}"))
        assert min(float((weights @ gradients - one).norm()) for one in possible) < 1e-12
        seen.add(tuple(weights.tolist()))
    assert len(seen) > 1, "the order never changes"


def pcgrad_by_hand(gradients, order):
    """Algorithm 1 of arXiv 2001.06782 on whole vectors, task i projected in the order `order[i]`."""
    combined = torch.zeros_like(gradients[0])
    for i, gradient in enumerate(gradients):
        g = gradient.clone()
        for j in order[i]:
            if j != i and g @ gradients[j] < 0:
                g -= (g @ gradients[j]) / (gradients[j] @ gradients[j]) * gradients[j]
        combined += g
    return combined


def test_tbgc_brings_all_to_one_norm():
    jacobian = torch.diag(torch.tensor([1.0, 2.0, 9.0], dtype=torch.float64))
    norms = (weigh("tbgc", jacobian)[:, None] * jacobian).norm(dim=1)
    torch.testing.assert_close(norms, torch.full((3,), 4.0, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 8))
def test_nash_weights_solve_the_bargain(seed, count):
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    jacobian *= 10 ** torch.empty(count, 1, dtype=torch.float64).uniform_(-2, 2, generator=generator)
    gram = jacobian @ jacobian.T / jacobian.square().sum(1).mean()
    weights = weigh("nash_mtl", jacobian)
    if torch.linalg.cond(gram) < 1e8:
        assert bool((weights > 0).all())
        stake = 1e-8 * weights.square() * gram.diagonal()
        torch.testing.assert_close(weights * (gram @ weights) + stake, torch.ones_like(weights), rtol=1e-5, atol=1e-5)


def test_nash_is_torchjd_s_where_torchjd_s_solver_converges():
    pytest.importorskip("ecos")
    from torchjd.aggregation import NashMTL

    torch.manual_seed(3)
    agreed = 0
    for _ in range(10):
        jacobian = torch.randn(3, 6, dtype=torch.float64)
        jacobian /= jacobian.square().sum(1).mean().sqrt()
        theirs = NashMTL(n_tasks=3, max_norm=0.0).weighting(jacobian)
        if (theirs * (jacobian @ jacobian.T @ theirs) - 1).norm() < 1e-5:
            agreed += 1
            torch.testing.assert_close(weigh("nash_mtl", jacobian) @ jacobian, theirs @ jacobian, rtol=1e-5, atol=1e-6)
    assert agreed >= 5


def test_gradvac_follows_torchjd_s_over_a_sequence_and_resumes_in_the_middle():
    from torchjd.aggregation import GradVac

    published, config = GradVac(), SurgeryConfig(method="gradvac")
    ours = make_weighting(config, names[:3])
    torch.manual_seed(0)
    for step in range(12):
        jacobian = torch.randn(3, 5, dtype=torch.float64) + 0.7
        with drawn(f"{step}"):
            expected = published(jacobian)
        if step == 6:
            state = json.loads(json.dumps(ours.state()))
            ours = make_weighting(config, names[:3])
            ours.restore(state)
        weights = ours.weights(jacobian @ jacobian.T, f"{step}")
        torch.testing.assert_close(weights @ jacobian, expected, rtol=1e-6, atol=1e-7)
    assert ours.target_TT.abs().max() > 0.1


def test_gradvac_keeps_the_targets_of_a_task_that_was_absent_for_a_step():
    ours = make_weighting(SurgeryConfig(method="gradvac"), names[:3])
    jacobian = torch.rand(3, 5, dtype=torch.float64)
    ours.weights(jacobian @ jacobian.T, "1")
    before = ours.target_TT.clone()
    jacobian[1] = 0
    ours.weights(jacobian @ jacobian.T, "2")
    assert torch.equal(ours.target_TT[1], before[1]) and not torch.equal(ours.target_TT[0, 2], before[0, 2])


def test_a_gram_matrix_that_is_not_finite_is_a_solver_error():
    with pytest.raises(SolverError, match="not finite"):
        weigh("mgda", torch.tensor([[float("nan"), 1.0], [1.0, 1.0]], dtype=torch.float64))


# ---- on the losses ----


@pytest.mark.parametrize("method", sorted(LOSS_METHODS))
def test_weights_on_the_losses_are_positive_and_sum_to_the_number_of_tasks(method):
    torch.manual_seed(0)
    config = SurgeryConfig(method=method, static_weights={"a": 3.0, "b": 0.1, "c": 1.0})
    weighting = make_weighting(config, names[:3])
    for step in range(20):
        weights = weighting.weights(None, f"{step}")
        assert bool((weights > 0).all())
        assert float(weights.sum()) == pytest.approx(3)
        weighting.observe(torch.rand(3, dtype=torch.float64) * 5)


def test_static_weights_count_by_their_ratios():
    weights = make_weighting(SurgeryConfig(method="static", static_weights={"b": 1.0, "a": 3.0}), ["a", "b"])
    assert weights.weights(None, "x").tolist() == [1.5, 0.5]


def test_famo_is_torchjd_s_with_the_next_losses_as_those_after_the_step():
    from torchjd.scalarization import FAMO

    torch.manual_seed(0)
    losses = torch.rand(10, 3, dtype=torch.float64) + 0.2
    published = FAMO(3, lr=0.025).double()
    ours = make_weighting(SurgeryConfig(method="famo", famo_lr=0.025), names[:3])
    for step, now in enumerate(losses):
        if step:
            published.update(now)
        ours.observe(now)
        values = now.clone().requires_grad_()
        (expected,) = torch.autograd.grad(published(values), values)
        torch.testing.assert_close(ours.weights(None, ""), 3 * expected, rtol=1e-6, atol=1e-7)


def test_uncertainty_is_torchjd_s_brought_to_the_sum():
    from torchjd.scalarization import UW

    torch.manual_seed(0)
    published = UW(3).double()
    optimizer = torch.optim.Adam(published.parameters(), lr=0.01)
    ours = make_weighting(SurgeryConfig(method="uncertainty", uncertainty_lr=0.01), names[:3])
    for now in torch.rand(10, 3, dtype=torch.float64) * 4:
        optimizer.zero_grad()
        published(now).backward()
        optimizer.step()
        ours.observe(now)
    expected = torch.exp(-published.log_var.detach())
    torch.testing.assert_close(ours.weights(None, ""), 3 * expected / expected.sum())


@pytest.mark.parametrize("method", ["uncertainty", "famo"])
def test_learned_weights_resume_exactly(method):
    torch.manual_seed(0)
    losses = torch.rand(12, 2, dtype=torch.float64) * 3 + 0.1
    whole = make_weighting(SurgeryConfig(method=method), names[:2])
    halves = make_weighting(SurgeryConfig(method=method), names[:2])
    for step, now in enumerate(losses):
        if step == 5:
            state = json.loads(json.dumps(halves.state()))
            halves = make_weighting(SurgeryConfig(method=method), names[:2])
            halves.restore(state)
        whole.observe(now)
        halves.observe(now)
    assert whole.weights(None, "").tolist() == halves.weights(None, "").tolist()
    assert whole.weights(None, "").tolist() != [1.0, 1.0]


def test_random_weights_differ_by_name_and_repeat():
    weighting = make_weighting(SurgeryConfig(method="random"), names[:3])
    first, second = weighting.weights(None, "1").tolist(), weighting.weights(None, "2").tolist()
    assert first != second and weighting.weights(None, "1").tolist() == first


# ---- a user's mistakes ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "pcgrd"}, "'surgery.method' is 'pcgrd'; it may be pcgrad"),
        ({"method": "static"}, "'surgery.static_weights' names no task"),
        ({"method": "static", "static_weights": {"a": 1.0, "d": 1.0}}, "names a, d; this run trains a, b"),
        ({"method": "static", "static_weights": {"a": 1.0, "b": 0.0}}, "weights are above 0"),
    ],
)
def test_mistakes_get_a_line(options, message):
    with pytest.raises(UserError, match=message):
        make_weighting(SurgeryConfig(**options), ["a", "b"])


@pytest.mark.parametrize("method", ["cagrad", "upgrad", "dualproj"])
def test_a_missing_solver_gets_a_line_with_the_remedy(method, monkeypatch):
    import torchjd._mixins

    monkeypatch.setattr(torchjd._mixins, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"{method}, which needs a solver.*pip install 'ufo-ds\[solvers\]'"):
        make_weighting(SurgeryConfig(method=method), ["a", "b"])
