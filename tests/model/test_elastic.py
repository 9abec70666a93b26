import pytest
import torch
from small_trunks import ALL, FAMILIES, METAS, loss_of, make_model, make_trunk, noise, shake

from ufo_ds.assembly import load_model, save_weights
from ufo_ds.errors import UserError
from ufo_ds.model.elastic import drawn_width
from ufo_ds.model.extraction import single_task, sliced
from ufo_ds.model.joint import JointModel
from ufo_ds.model.trunk import Trunk
from ufo_ds.recipe import ElasticConfig, ModelConfig, TaskBlocksConfig, TrunkConfig, Width

OPTIONS = dict(FAMILIES)
DEEP = {**OPTIONS["vit_tiny_patch16_224"], "depth": 4}


def test_the_size_of_a_step_is_drawn_from_the_lists_and_often_whole():
    config = ElasticConfig(depth=[3, 4], mlp=[0.5], full=0.25)
    drawn = [drawn_width(config, 0, step) for step in range(1, 1001)]
    assert drawn == [drawn_width(config, 0, step) for step in range(1, 1001)]
    assert drawn != [drawn_width(config, 1, step) for step in range(1, 1001)]
    assert set(drawn) == {Width(), Width(depth=3, mlp=0.5), Width(depth=4, mlp=0.5)}
    assert 0.2 < drawn.count(Width()) / 1000 < 0.3
    assert all(drawn_width(ElasticConfig(), 0, step) == Width() for step in range(100))


@pytest.mark.parametrize(("name", "options"), FAMILIES)
def test_a_cut_trunk_gives_what_the_whole_one_gives_at_that_size(name, options):
    elastic = ElasticConfig(depth=[3], heads=[1], mlp=[0.3])
    trunk = make_trunk(name, {**options, "depth": 4}, task_blocks=TaskBlocksConfig([1], **ALL), elastic=elastic)
    model = JointModel(shake(trunk).eval(), {"cls": torch.nn.Identity(), "seg": torch.nn.Identity()}).eval()
    images = noise(1, 3, 48, 64)
    whole = trunk(images, "cls").maps
    small = sliced(model, depth=3, heads=1, mlp=0.3).trunk
    trunk.width = Width(3, 1, 0.3)
    for task in ("cls", "seg"):
        for one, other in zip(small(images, task).maps, trunk(images, task).maps, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(small(images, "cls").maps[-1], whole[-1], atol=1e-4), "nothing was cut"
    assert len(small.vit.blocks) == 3
    assert small.vit.blocks[0].mlp.fc2.weight.shape[1] == round(0.3 * trunk.vit.blocks[0].mlp.fc2.weight.shape[1])
    assert small.vit.blocks[1].attn.own["cls"].proj.weight.shape == (32, 16)
    query = small.vit.blocks[0].attn.qkv or small.vit.blocks[0].attn.q_proj
    assert query.weight.shape in ((16, 32), (3 * 16, 32))


def test_gradients_reach_the_leading_part_alone():
    trunk = make_trunk(options=DEEP, elastic=ElasticConfig([3], [1], [0.5], 0.01))
    steps = [step for step in range(1, 50) if trunk.begin_step(0, step, 50)["width"]["depth"]]
    assert len(steps) > 40
    trunk.begin_step(0, steps[0], 50)
    loss_of(trunk.train()(noise(1, 3, 32, 32))).backward()
    block, last = trunk.vit.blocks[0], trunk.vit.blocks[3]
    used = block.attn.qkv.weight.grad.abs().sum(1).view(3, 2, 16) > 0
    assert used[:, 0].all() and not used[:, 1].any()
    assert (block.attn.proj.weight.grad.abs().sum(0) > 0).tolist() == [True] * 16 + [False] * 16
    assert (block.mlp.fc1.weight.grad.abs().sum(1) > 0).tolist() == [True] * 64 + [False] * 64
    assert (block.mlp.fc2.weight.grad.abs().sum(0) > 0).tolist() == [True] * 64 + [False] * 64
    assert all(value.grad is None for value in last.parameters())


@pytest.mark.parametrize("method", ["torch", "fairscale", "deepspeed"])
def test_a_recomputation_has_the_size_of_its_pass(method):
    if method == "fairscale":
        pytest.importorskip("fairscale")

    def gradients(checkpointing):
        trunk = make_trunk(options=DEEP, checkpointing=checkpointing,
                           elastic=ElasticConfig([3], [1], [0.5, 0.25], 0.3), drop_path=0.2).train()  # fmt: skip
        losses, widths = [], []
        for step in (2, 3, 4, 5, 6):
            widths.append(str(trunk.begin_step(1, step, 6)["width"]))
            torch.manual_seed(step)
            losses.append(loss_of(trunk(noise(1, 3, 32, 32))))
        assert len(set(widths)) > 2
        torch.stack(losses).sum().backward()
        return [value.grad for value in trunk.parameters()]

    for one, other in zip(gradients(method), gradients("none"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_step_of_the_whole_trunk_is_that_of_a_plain_one():
    plain, elastic = make_trunk().train(), make_trunk(elastic=ElasticConfig(heads=[1], mlp=[0.5], full=1.0)).train()
    assert elastic.begin_step(0, 1, 2) == {"width": {"depth": None, "heads": None, "mlp": None}}
    for trunk in (plain, elastic):
        loss_of(trunk(noise(1, 3, 32, 32), "cls")).backward()
    for one, other in zip(plain.parameters(), elastic.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_a_cut_model_is_saved_and_cut_to_one_task(tmp_path):
    elastic = {"depth": [2], "heads": [1], "mlp": [0.5]}
    blocks = {"blocks": "last:2", "ffn": "learned", "attention": "specific"}
    model, recipe, metas = make_model(depths=2, task_blocks=blocks, elastic=elastic)
    shake(model).eval()
    small, images = sliced(model, depth=2, heads=1, mlp=0.5), noise(1, 3, 40, 40)
    save_weights(small, recipe, metas, tmp_path / "small")
    again, resolved, _ = load_model(tmp_path / "small")
    assert resolved.trunk.sliced == Width(2, 1, 0.5) and resolved.trunk.elastic == ElasticConfig()
    model.trunk.width = Width(2, 1, 0.5)
    for task in metas:
        expected = model.raw(task, images)["logits"]
        save_weights(single_task(small, task), recipe, {task: METAS[task]}, tmp_path / task)
        for other in (small, again, load_model(tmp_path / task)[0]):
            torch.testing.assert_close(other.raw(task, images)["logits"], expected, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="cut before"):
        sliced(small, heads=1)


@pytest.mark.parametrize(
    ("name", "settings", "line"),
    [
        ("vit_tiny_patch16_224", {"elastic": ElasticConfig(depth=[4])}, "'trunk.elastic.depth' is 4: the trunk has 3"),
        (
            "vit_tiny_patch16_224",
            {"sliced": Width(heads=1), "elastic": ElasticConfig(heads=[2])},
            "'trunk.elastic.heads' is 2: the trunk has 1 heads",
        ),
        ("vit_tiny_patch16_224", {"sliced": Width(heads=3)}, "'trunk.sliced.heads' is 3: the trunk has 2 heads"),
        ("beit3_base_patch16_224", {"elastic": ElasticConfig(heads=[1])}, "heads'.* a norm over all heads"),
        ("vit_small_patch16_rope_mixed_224", {"sliced": Width(heads=1)}, "position embedding differs by head"),
        ("vit_small_patch16_18x2_224", {"elastic": ElasticConfig(mlp=[0.5])}, "mlp': this trunk cannot be cut so"),
    ],
)
def test_sizes_that_a_trunk_cannot_have_get_one_line(name, settings, line):
    options = OPTIONS.get(name, {"embed_dim": 32, "depth": 3, "num_heads": 2})
    with pytest.raises(UserError, match=line):
        make_trunk(name, options, **settings)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"elastic": ElasticConfig(depth=[3])}, "'trunk.elastic.depth' is 3: the trunk has 2"),
        ({"task_blocks": TaskBlocksConfig("last:1", "specific")}, "is last:1: of the 3 blocks .* keeps the first 2"),
    ],
)
def test_what_is_asked_of_a_trunk_that_was_cut(settings, line):
    config = ModelConfig(
        "vit_tiny_patch16_224", {"embed_dim": 32, "depth": 3, "num_heads": 2}, pretrained=False, depths=2
    )
    with pytest.raises(UserError, match=line):
        Trunk(config, ["cls"], TrunkConfig(sliced=Width(depth=2), **settings))


def test_an_eva_trunk_that_was_cut_can_be_cut_further():
    name = "eva02_tiny_patch14_224"
    trunk = make_trunk(name, {**OPTIONS[name], "num_heads": 4}, sliced=Width(heads=3), elastic=ElasticConfig(heads=[2]))
    shake(trunk).eval()
    whole = trunk(noise(1, 3, 56, 56)).maps[-1]
    trunk.width = Width(heads=2)
    assert not torch.equal(trunk(noise(1, 3, 56, 56)).maps[-1], whole)
