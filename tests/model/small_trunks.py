"""Trunks and joint models of a few thousand parameters, of every family that a trunk can be of."""

import torch

from ufo_ds.assembly import build_model
from ufo_ds.command_line import recipe_from
from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.model.trunk import Trunk
from ufo_ds.recipe import ModelConfig, TrunkConfig

SMALL = {"embed_dim": 32, "depth": 3, "num_heads": 2}
FAMILIES = [
    ("vit_tiny_patch16_224", {**SMALL, "img_size": 32, "patch_size": 8}),
    ("deit3_small_patch16_224", SMALL),
    ("vit_small_patch14_dinov2", {**SMALL, "patch_size": 16}),
    ("vit_small_patch16_dinov3", SMALL),
    ("eva02_tiny_patch14_224", SMALL),
    ("eva02_large_patch14_224", SMALL),
    ("vit_tiny_r_s16_p8_224", {**SMALL, "img_size": 32, "patch_size": 2}),
]
ALL = {"ffn": "learned", "norm": "specific", "attention": "specific"}
METAS = {name: TaskMeta(name, "test", [ClassInfo(i, str(i)) for i in range(3)], {}) for name in ("cls", "seg")}


def noise(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make_trunk(name=FAMILIES[0][0], options=FAMILIES[0][1], checkpointing="none", seed=0, drop_path=0.0, **settings):
    torch.manual_seed(seed)
    config = ModelConfig(name, options, pretrained=False, depths=3, checkpointing=checkpointing, drop_path=drop_path)
    return Trunk(config, ["cls", "seg"], TrunkConfig(**settings))


def loss_of(features):
    probe = torch.Generator().manual_seed(3)
    return sum((one.float() * torch.randn(one.shape[1:], generator=probe)).sum() for one in features.maps)


def make_model(seed=0, tasks=("cls", "seg"), depths=3, **trunk):
    values = {
        "model": {"trunk": FAMILIES[0][0], "trunk_kwargs": FAMILIES[0][1], "pretrained": False, "depths": depths},
        "trunk": trunk,
        "tasks": {"cls": {"size": [32, 32]}, "seg": {"crop": [32, 32], "width": 16}},
    }
    recipe = recipe_from(values, "test")
    torch.manual_seed(seed)
    metas = {name: METAS[name] for name in tasks}
    return build_model(recipe, metas), recipe, metas


def shake(model, scale=0.3):
    """Other weights everywhere, so that no copy is equal to another."""
    torch.manual_seed(9)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(scale * torch.randn_like(value) * value.abs().mean().clamp(min=0.1))
    return model
