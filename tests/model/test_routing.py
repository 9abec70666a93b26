import dataclasses
import json

import pytest
import torch
from small_trunks import ALL, FAMILIES, METAS, loss_of, make_model, make_trunk, noise, shake
from torch.utils.flop_counter import FlopCounterMode

from ufo_ds.assembly import CONFIG, load_fitting, load_model, save_weights, values_of
from ufo_ds.data.batch import Batch
from ufo_ds.errors import UserError
from ufo_ds.model.extraction import single_task
from ufo_ds.recipe import OptimizerConfig, TaskBlocksConfig, TrunkConfig
from ufo_ds.surgery.task_gradients import SHARED
from ufo_ds.training.averaging import WeightAverage
from ufo_ds.training.optimizer import parameter_groups


@pytest.mark.parametrize(("name", "options"), FAMILIES)
def test_a_routed_trunk_begins_as_the_plain_one_and_each_task_trains_its_own_path(name, options):
    plain = make_trunk(name, options)
    routed = make_trunk(name, options, task_blocks=TaskBlocksConfig("last:2", **ALL))
    images = noise(1, 3, 48, 48)
    expected = plain.eval()(images).maps
    for task in ("cls", "seg"):
        for one, other in zip(routed.eval()(images, task).maps, expected, strict=True):
            assert torch.equal(one, other)
    names = {name for name, _ in routed.named_parameters()}
    lost = {name for name, _ in plain.named_parameters()} - names
    assert lost and all(name.split(".")[3] in ("norm1", "norm2", "attn") for name in lost), "shared names changed"
    routed.train().begin_step(0, 1, 10)
    loss_of(routed(images, "cls")).backward()
    touched = {name for name, value in routed.named_parameters() if value.grad is not None}
    foreign = {name for name in names if ".seg" in name}
    own = routed.routing.training_route("cls").own
    off_path = {
        name for name in names if any(
            name.startswith(f"vit.blocks.{block}.mlp.") and ".logits." not in name
            and (".own." in name) != (f"block {block} ffn" in own) for block in (1, 2)
        )
    }  # fmt: skip
    assert foreign and off_path and touched == names - foreign - off_path


def test_a_task_costs_the_operations_of_one_trunk():
    def operations(**blocks):
        trunk = make_trunk(task_blocks=TaskBlocksConfig(**blocks)).train()
        trunk.begin_step(0, 1, 10)
        with FlopCounterMode(display=False) as counter:
            loss_of(trunk(noise(1, 3, 32, 32), "cls")).backward()
        return counter.get_total_flops()

    assert operations() == operations(blocks="all", **ALL) == operations(blocks="all", ffn="specific") > 0


def test_draws_are_of_seed_step_place_and_task_and_the_gate_leaves_the_output_alone():
    def route(seed, step, task="cls"):
        trunk.begin_step(seed, step, 10)
        return trunk.routing.training_route(task)

    trunk = make_trunk(task_blocks=TaskBlocksConfig("all", ffn="learned", attention="learned"))
    assert route(1, 2) == route(1, 2)
    assert len({tuple(route(1, 2).noise.values()), tuple(route(1, 3).noise.values()), tuple(route(2, 2).noise.values()),
                tuple(route(1, 2, "seg").noise.values())}) == 4  # fmt: skip
    assert len(set(route(1, 2).noise.values())) == 6, "places share a draw"
    shares = [len(route(0, step).own) / 6 for step in range(1, 200)]
    assert 0.45 < sum(shares) / len(shares) < 0.55
    assert [round(route(0, step).temperature, 6) for step in (1, 10, 99)] == [2.0, 0.5, 0.5]
    with torch.no_grad():
        trunk.vit.blocks[0].mlp.logits["cls"].copy_(torch.tensor([0.0, 2.0]))
    share = sum("block 0 ffn" in route(0, step).own for step in range(500)) / 500
    assert abs(share - torch.sigmoid(torch.tensor(2.0))) < 0.05
    record = trunk.begin_step(0, 1, 10)
    assert record["own"]["cls"]["block 0 ffn"] == pytest.approx(0.8808, abs=1e-4)
    assert record["own"]["seg"]["block 2 attention"] == 0.5
    images, task_route = noise(1, 3, 32, 32), trunk.routing.training_route("cls")
    gated = trunk.train()(images, "cls").maps[-1]
    with torch.no_grad(), trunk.way.taken(dataclasses.replace(task_route, noise={})):
        bare = trunk.vit.forward_intermediates(
            (images.float() - trunk.mean) / trunk.std, indices=[2], norm=True, intermediates_only=True
        )[0]
    assert torch.equal(gated, bare)


def test_logits_get_the_straight_through_gradient_of_the_way_that_is_taken():
    trunk = make_trunk(task_blocks=TaskBlocksConfig([1], ffn="learned")).train()
    mlp, images = trunk.vit.blocks[1].mlp, noise(1, 3, 32, 32)
    shake(trunk)
    for step in range(1, 8):
        trunk.zero_grad()
        trunk.begin_step(4, step, 10)
        route = trunk.routing.training_route("cls")
        own = "block 1 ffn" in route.own
        kept = []
        hook = (mlp.own["cls"] if own else mlp).fc2.register_forward_hook(lambda *call, kept=kept: kept.append(call[2]))
        features = trunk(images, "cls")
        hook.remove()
        # d loss / d scale of the chosen FFN's output, times d probability / d logits.
        by_output = torch.autograd.grad(loss_of(features), kept[0], retain_graph=True)[0]
        loss_of(features).backward()
        logits = mlp.logits["cls"].detach().clone().requires_grad_()
        soft = torch.softmax((logits + torch.tensor([0.0, route.noise["block 1 ffn"]])) / route.temperature, 0)
        expected = torch.autograd.grad(soft[int(own)] * (by_output * kept[0]).sum().detach(), logits)[0]
        torch.testing.assert_close(mlp.logits["cls"].grad, expected, rtol=1e-4, atol=1e-5)
        assert mlp.logits["seg"].grad is None


@pytest.mark.parametrize("method", ["torch", "fairscale", "deepspeed"])
def test_a_recomputation_takes_the_route_of_its_pass(method):
    if method == "fairscale":
        pytest.importorskip("fairscale")

    def gradients(checkpointing):
        trunk = make_trunk(
            checkpointing=checkpointing, task_blocks=TaskBlocksConfig("all", **ALL), drop_path=0.2
        ).train()
        shake(trunk)
        losses = []
        for step, task in ((1, "cls"), (2, "seg"), (3, "cls")):  # two passes, and only then their backwards
            trunk.begin_step(0, step, 3)
            torch.manual_seed(step)
            losses.append(loss_of(trunk(noise(1, 3, 32, 32), task)))
        for loss in losses:
            loss.backward()
        return {name: value.grad for name, value in trunk.named_parameters()}

    expected, found = gradients("none"), gradients(method)
    assert sum(value is not None for value in expected.values()) > 60
    for name, value in expected.items():
        assert (found[name] is None) == (value is None), name
        if value is not None:
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_own_parameters_are_not_shared_and_keep_the_rate_of_their_block():
    model, *_ = make_model(task_blocks={"blocks": "last:2", "ffn": "learned", "norm": "specific"})
    config = OptimizerConfig(layer_decay=0.5, head_lr_scale=7.0, weight_decay=0.1)
    found = {}
    for group in parameter_groups(model, config):
        assert group["params"]
        for parameter in group["params"]:
            assert parameter not in found
            found[parameter] = (group[SHARED], group["lr_scale"], group["weight_decay"])
    assert set(found) == set(model.parameters())
    own = set(model.trunk.own_parameters())
    of_trunk, depth = model.trunk.named_parameters(), model.trunk.depth_of_parameters()
    for name, parameter in of_trunk:
        assert found[parameter][0] is (parameter not in own) is (parameter in depth), name
    block = model.trunk.vit.blocks[1]
    assert found[block.mlp.own["seg"].fc1.weight] == (False, 0.5, 0.1)
    assert found[block.mlp.fc1.weight] == (True, 0.5, 0.1)
    assert found[block.norm2.own["cls"].weight] == (False, 0.5, 0.0)
    assert found[block.mlp.logits["cls"]] == (False, 5.0, 0.0)


def test_routed_weights_come_back_and_those_of_a_plain_run_start_all_copies(tmp_path):
    plain, recipe, metas = make_model()
    shake(plain)
    save_weights(plain, recipe, metas, tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / CONFIG).read_text())
    del config["trunk"]  # as older weights are
    (tmp_path / "plain" / CONFIG).write_text(json.dumps(config))
    assert load_model(tmp_path / "plain")[1].trunk == TrunkConfig()
    routed, recipe, metas = make_model(seed=1, task_blocks={"blocks": "all", **ALL})
    assert load_fitting(routed, tmp_path / "plain") == {
        "taken": ["trunk", "heads.cls", "heads.seg"], "remade": [], "absent": []
    }  # fmt: skip
    images = noise(1, 3, 32, 32)
    for task in metas:
        assert torch.equal(routed.eval().raw(task, images)["logits"], plain.eval().raw(task, images)["logits"])
    shake(routed)
    save_weights(routed, recipe, metas, tmp_path / "routed")
    again, resolved, _ = load_model(tmp_path / "routed")
    assert resolved.trunk == recipe.trunk and values_of(tmp_path / "routed")["trunk"]["task_blocks"]["blocks"] == "all"
    for task in metas:
        assert torch.equal(again.raw(task, images)["logits"], routed.raw(task, images)["logits"])
    # One of the tasks alone keeps its path; a task that the weights lack starts from the mean of the copies.
    seg, *_ = make_model(seed=2, tasks=["seg"], task_blocks={"blocks": "all", **ALL})
    load_fitting(seg, tmp_path / "routed")
    assert torch.equal(seg.eval().raw("seg", images)["logits"], routed.raw("seg", images)["logits"])
    save_weights(seg, recipe, {"seg": METAS["seg"]}, tmp_path / "seg")
    both, *_ = make_model(seed=3, task_blocks={"blocks": "all", **ALL})
    load_fitting(both, tmp_path / "seg")
    block, source = both.trunk.vit.blocks[2], routed.trunk.vit.blocks[2]
    assert torch.equal(block.attn.own["cls"].qkv.weight, source.attn.own["seg"].qkv.weight)
    assert torch.equal(block.mlp.own["cls"].fc1.weight, source.mlp.fc1.weight), "of two, the shared one"
    shared, *_ = make_model(seed=4)
    load_fitting(shared, tmp_path / "routed")
    mean = (source.attn.own["cls"].qkv.weight + source.attn.own["seg"].qkv.weight) / 2
    torch.testing.assert_close(shared.trunk.vit.blocks[2].attn.qkv.weight, mean)


@pytest.mark.parametrize("tasks", [["cls"], ["seg"], ["cls", "seg"]])
@pytest.mark.parametrize("kind", ["plain", "specific", "learned"])
def test_learned_ways_are_what_another_routing_starts_from(tmp_path, tasks, kind):
    learned, recipe, metas = make_model(task_blocks={"blocks": "all", "ffn": "learned", "attention": "learned"})
    shake(learned).eval()
    for part in learned.trunk.routing.parts:
        with torch.no_grad():
            part.module.logits["cls"].copy_(torch.tensor([0.0, 1.0]))
            part.module.logits["seg"].copy_(torch.tensor([1.0, 0.0]))
    save_weights(learned, recipe, metas, tmp_path / "learned")
    blocks = {} if kind == "plain" else {"task_blocks": {"blocks": "all", "ffn": kind, "attention": kind}}
    model, *_ = make_model(seed=1, tasks=tasks, **blocks)
    load_fitting(model, tmp_path / "learned")
    images = noise(1, 3, 32, 32)
    for task in tasks:
        same = torch.equal(model.eval().raw(task, images)["logits"], learned.raw(task, images)["logits"])
        assert same == (kind != "plain" or len(tasks) == 1 or task == "seg")


def test_an_average_of_weights_takes_copies_and_logits_in():
    model, twin = (make_model(seed=seed, task_blocks={"blocks": "all", **ALL})[0] for seed in (0, 1))
    average = WeightAverage(model, twin, 0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shake(model)
    average.update(100)
    for name, value in average.model.state_dict().items():
        torch.testing.assert_close(value, (before[name] + model.state_dict()[name]) / 2)


@pytest.mark.parametrize("kind", ["specific", "learned"])
def test_a_single_task_is_a_plain_model_with_the_weights_on_its_path(kind, tmp_path):
    blocks = {"blocks": "last:2", "ffn": kind, "attention": "learned", "norm": "specific"}
    model, recipe, metas = make_model(task_blocks=blocks)
    shake(model).eval()
    with torch.no_grad():
        model.trunk.vit.blocks[1].attn.logits["cls"].copy_(torch.tensor([1.0, 0.0]))
        model.trunk.vit.blocks[2].attn.logits["cls"].copy_(torch.tensor([0.0, 1.0]))
    plain, *_ = make_model()
    for task in metas:
        part = single_task(model, task)
        assert set(part.trunk.state_dict()) == set(plain.trunk.state_dict())
        save_weights(part, recipe, {task: METAS[task]}, tmp_path / task)
        again, resolved, _ = load_model(tmp_path / task)
        assert resolved.trunk.task_blocks == TaskBlocksConfig()
        for size in (32, 40):  # the second is padded as the joint model pads it
            images = noise(2, 3, size, size)
            expected = model.raw(task, images)["logits"]
            for other in (part, again):
                torch.testing.assert_close(other.raw(task, images)["logits"], expected, rtol=0, atol=1e-6)


def test_losses_and_predictions_go_the_way_of_the_batch():
    model, *_ = make_model(task_blocks={"blocks": "all", "ffn": "specific"})
    shake(model).train()
    batch = Batch("cls", noise(2, 3, 32, 32), torch.tensor([0, 1]), [{"file_name": "a"}] * 2)
    model(batch)["loss"].backward()
    assert model.trunk.vit.blocks[0].mlp.own["cls"].fc1.weight.grad is not None
    assert model.trunk.vit.blocks[0].mlp.own["seg"].fc1.weight.grad is None


@pytest.mark.parametrize(
    ("name", "blocks", "line"),
    [
        (FAMILIES[0][0], "last:4", "'trunk.task_blocks.blocks' is last:4: the trunk has 3 blocks, 0 to 2"),
        (FAMILIES[0][0], "every:4", "the trunk has 3 blocks"),
        (FAMILIES[0][0], [1, 3], r"'trunk.task_blocks.blocks' is \[1, 3\]"),
        ("vit_small_patch16_36x1_224.none", [0], None),
        ("vit_small_patch16_18x2_224", [0], "has no 'mlp' of its own"),
    ],
)
def test_blocks_that_cannot_be_routed_get_one_line(name, blocks, line):
    def make():
        return make_trunk(name.split(".")[0], FAMILIES[0][1], task_blocks=TaskBlocksConfig(blocks))

    if line is None:
        make()
        return
    with pytest.raises(UserError, match=line):
        make()
