import json
import sys
from pathlib import Path

import pytest
import torch

from ufo_ds.assembly import build_model
from ufo_ds.command_line import ROOT, parse_recipe
from ufo_ds.model.trunk import Trunk
from ufo_ds.planning.activations import planned_batch
from ufo_ds.planning.counting import CostCounter
from ufo_ds.planning.memory import Engine, Sizes, at_the_peak, held, traffic
from ufo_ds.planning.plan import _challenge, make_plan
from ufo_ds.planning.text import as_text, as_values

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from allocations import allocated


def recipe_of(*more):
    return parse_recipe({}, (), ["--config", str(ROOT / "launch/recipes/toy.yaml"), *more])[0]


def test_bytes_are_counted_with_their_storage_once_and_until_they_go():
    with CostCounter() as counter:
        first = torch.zeros(1000)
        view = first[10:].view(-1)
        assert counter.live == 4000
        second = first + 1
        del first, view
        third = second.double()
    assert (counter.live, counter.peak) == (4000 + 8000, 4000 + 8000) and third.numel() == second.numel()


@pytest.mark.parametrize(("checkpointing", "precision"), [("none", "fp32"), ("torch", "bf16")])
def test_planned_activations_are_what_a_real_pass_allocates(checkpointing, precision):
    """Against torch's own record of allocations, which knows nothing of the plan: within 10 %."""
    recipe = recipe_of("--model.checkpointing", checkpointing, "--train.precision", precision)
    plan = make_plan(recipe, 1)
    torch.manual_seed(0)
    model = build_model(recipe, _challenge(recipe)).train()
    for parameter in (p for p in model.parameters() if p.requires_grad):
        parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    for name, task in plan.tasks.items():
        batch = planned_batch(name, *task.cost.images)

        def both_ways(batch=batch):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = model(batch)["loss"]
            loss.backward()

        peak = allocated(both_ways)
        assert task.cost.peak == pytest.approx(peak, rel=0.10), name


def test_zero_divides_what_it_partitions_and_nothing_else():
    sizes = Sizes(800, {"cls": 80, "det": 160})
    one, eight = (Engine(ranks, 100, True, False, True, False, 1, True, True) for ranks in (1, 8))
    assert held(sizes, one) == {"weights": 4160, "fp32 master weights": 4160, "Adam's moments": 8320}
    assert held(sizes, eight) == {"weights": 4160, "fp32 master weights": 520, "Adam's moments": 1040}
    moment, parts = at_the_peak(sizes, eight, {"cls": 10, "det": 100_000})
    assert moment == "backward of det" and parts["activations"] == 100_000
    assert parts["partitions of gradients"] == 400 + 120 + 520 and parts["buckets of gradients"] == 800
    assert at_the_peak(sizes, one, {"cls": 10, "det": 20})[0] == "optimizer step"
    sent = traffic(sizes, eight, tasks=2, blocks=1)
    assert sent["gradients, all-reduced"] == 2 * 4 * (2 * 800 + 240) * 7 // 8
    assert traffic(sizes, one, 2, 1) == {"gradients, all-reduced": 0, "weights, gathered": 0, "surgery": 0}


def test_a_learned_way_sends_what_a_given_one_sends_and_its_logits():
    sent = {}
    for kind in ("shared", "specific", "learned"):
        recipe = recipe_of(
            "--tasks.names", "[cls, seg]", "--trunk.task_blocks.blocks", "all", "--trunk.task_blocks.ffn", kind
        )
        sent[kind] = make_plan(recipe, 4).traffic["gradients, all-reduced"]
        blocks = len(Trunk(recipe.model.bare()).vit.blocks)
    assert sent["specific"] == sent["shared"]
    assert sent["learned"] - sent["shared"] == 2 * 4 * 2 * 2 * blocks * 3 // 4


def test_a_plan_speaks_of_every_part_and_of_the_passes_only_where_there_are_samples():
    recipe = recipe_of("--tasks.names", "[cls, seg]", "--train.ema", "0.9")
    plan = make_plan(recipe, 4)
    text = as_text(plan, recipe, teraflops=100)
    for part in ("trunk, shared", "own of cls", "own of seg", "moving average", "gradients, all-reduced", "24 images"):
        assert part in text
    assert "--data.shards tells" in text and "own of det" not in text
    values = json.loads(json.dumps(as_values(plan)))
    assert values["parameters"]["trunk"] == plan.sizes.shared and values["bytes"]["in_all"] == plan.bytes_at_peak


def test_what_tasks_have_of_their_own_is_not_counted_as_shared():
    plain = make_plan(recipe_of("--tasks.names", "[cls, seg]"), 2)
    learned = ["--trunk.task_blocks.blocks", "last:1", "--trunk.task_blocks.ffn", "learned"]
    plan = make_plan(recipe_of("--tasks.names", "[cls, seg]", *learned), 2)
    ffn = 2 * 128 * 384 + 128 + 384  # of the toy recipe's trunk
    assert plan.sizes.shared == plain.sizes.shared
    assert {name: own - plain.sizes.own[name] for name, own in plan.sizes.own.items()} == {
        "cls": ffn + 2, "seg": ffn + 2,
    }  # fmt: skip
    for name, task in plan.tasks.items():
        assert task.cost.flops == plain.tasks[name].cost.flops, "a task costs one FFN, whichever"
