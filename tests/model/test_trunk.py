import itertools

import pytest
import timm
import torch
from safetensors.torch import save_file

from ufo_ds.errors import UserError
from ufo_ds.model.pyramid import Pyramid
from ufo_ds.model.trunk import Trunk
from ufo_ds.recipe import ModelConfig

TINY = {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 3}


def noise(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", TINY),
        ("deit3_small_patch16_224", {"depth": 3, "embed_dim": 48, "num_heads": 3}),
        ("vit_base_patch14_dinov2", {"depth": 3, "embed_dim": 48, "num_heads": 3}),
        ("vit_base_patch16_dinov3", {"depth": 3, "embed_dim": 48, "num_heads": 3}),
        ("eva02_tiny_patch14_224", {"depth": 3, "embed_dim": 48, "num_heads": 3}),
        ("vit_tiny_r_s16_p8_224", {**TINY, "patch_size": 2}),
    ],
)
def test_any_timm_vit_takes_any_size_and_trains_all_its_parameters(name, options):
    trunk = Trunk(ModelConfig(trunk=name, trunk_kwargs=options, pretrained=False, depths=3, checkpointing="none"))
    for height, width in ((64, 64), (100, 150)):
        features = trunk(noise(2, 3, height, width))
        patch = trunk.shape.patch
        expected = (-(-height // patch), -(-width // patch))
        assert [tuple(one.shape) for one in features.maps] == [(2, 48, *expected)] * 3
        assert features.input_size == (expected[0] * patch, expected[1] * patch)
        assert (features.prefix is not None) == (trunk.shape.prefix_tokens > 0)
    sum(one.square().mean() for one in features.maps).backward()
    assert [name for name, value in trunk.named_parameters() if value.grad is None] == []


def test_pretrained_weights_come_from_a_local_file_and_resize(tmp_path):
    published = timm.create_model("vit_tiny_patch16_224", num_classes=1000, **{**TINY, "img_size": 32})
    save_file(published.state_dict(), tmp_path / "published.safetensors")
    config = ModelConfig(
        trunk="vit_tiny_patch16_224",
        trunk_kwargs=TINY,
        depths=2,
        pretrained_file=str(tmp_path / "published.safetensors"),
    )
    vit = Trunk(config).vit
    torch.testing.assert_close(vit.blocks[3].mlp.fc1.weight, published.blocks[3].mlp.fc1.weight)
    assert vit.pos_embed.shape[1] == 65, "4 x 4 positions were resized to 8 x 8"


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (ModelConfig(trunk="vit_tinny", pretrained=False), "has no model 'vit_tinny'"),
        (ModelConfig(trunk="resnet50", pretrained=False), "choose a ViT"),
        (ModelConfig(trunk="swin_tiny_patch4_window7_224", pretrained=False), "no plain vision transformer"),
        (ModelConfig(trunk="vit_tiny_patch16_224", trunk_kwargs={"wings": 2}, pretrained=False), "wings"),
        (ModelConfig(trunk="vit_tiny_patch16_224", trunk_kwargs=TINY, depths=9, pretrained=False), "only 4 blocks"),
        (ModelConfig(trunk="vit_tiny_patch16_224", pretrained_file="no-such.safetensors"), "no-such.safetensors"),
    ],
)
def test_a_trunk_that_cannot_be_had_gets_one_line(config, line):
    with pytest.raises(UserError, match=line):
        Trunk(config)


def test_batch_norm_is_refused():
    config = ModelConfig(trunk="vit_small_resnet26d_224", trunk_kwargs={"embed_dim": 48, "depth": 1}, pretrained=False)
    with pytest.raises(UserError, match="'vit_small_resnet26d_224' has BatchNorm"):
        Trunk(config)


@pytest.mark.parametrize("options", [TINY, {**TINY, "patch_size": 14}])
def test_pyramid_levels_are_each_twice_the_next(options):
    trunk = Trunk(ModelConfig(trunk="vit_tiny_patch16_224", trunk_kwargs=options, pretrained=False, depths=2))
    pyramid = Pyramid(trunk.shape, 16, (4, 8, 16, 32))
    trunk.multiple = pyramid.multiple
    levels = pyramid(trunk(noise(1, 3, 90, 130)).maps)
    for fine, coarse in itertools.pairwise(levels):
        assert tuple(fine.shape[-2:]) == (2 * coarse.shape[-2], 2 * coarse.shape[-1])


@pytest.mark.parametrize("method", ["torch", "fairscale", "deepspeed"])
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_checkpointing_recomputes_the_same_gradients(method, autocast):
    def gradients(checkpointing):
        torch.manual_seed(0)
        trunk = Trunk(
            ModelConfig(
                trunk="vit_tiny_patch16_224",
                trunk_kwargs=TINY,
                pretrained=False,
                depths=2,
                checkpointing=checkpointing,
                drop_path=0.2,
            )
        )
        total = []
        for size in (64, 40):  # two tasks, one after the other, as a step does
            torch.manual_seed(1)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                features = trunk(noise(2, 3, size, size))
                # Not the squares: after a LayerNorm their mean is a constant.
                loss = sum((one.float() ** 3).mean() for one in features.maps)
            loss.backward()
            total.append(float(loss.detach()))
        return total, [value.grad for value in trunk.parameters()]

    if method == "fairscale":
        pytest.importorskip("fairscale")
    plain_loss, plain = gradients("none")
    loss, found = gradients(method)
    assert loss == plain_loss
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["eva02_base_patch14_224", "vit_medium_patch16_reg4_gap_256"])
def test_a_norm_that_is_published_after_the_pooling_is_the_last_of_the_maps(name):
    options = {"embed_dim": 48, "depth": 3, "num_heads": 2}
    trunk = Trunk(ModelConfig(name, options, pretrained=False, depths=3)).eval()
    norm = timm.create_model(name, **options).fc_norm
    assert isinstance(norm, torch.nn.LayerNorm) and isinstance(trunk.vit.norm, torch.nn.LayerNorm)
    assert not any("fc_norm" in key for key in trunk.state_dict())
    with torch.no_grad():
        trunk.vit.norm.bias.fill_(3.0)
    for one in trunk(noise(1, 3, 56, 56)).maps:
        assert one.mean(1).allclose(torch.tensor(3.0), atol=1e-3)
