"""The shipped recipes: they parse, their models build at full size (without memory) and train a step at tiny width."""

import pytest
import torch

from ufo_ds.assembly import build_model, count_parameters
from ufo_ds.command_line import ROOT, parse_recipe
from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.training.engine_config import engine_config

RECIPES = sorted((ROOT / "launch" / "recipes").glob("*.yaml"))
SMALL = [
    "--model.trunk_kwargs", "{embed_dim: 48, depth: 4, num_heads: 3}",
    "--tasks.det.width", "32", "--tasks.seg.width", "16",
    "--tasks.det.decoder_kwargs",
    "{decoder_layers: 2, num_queries: 8, encoder_ffn_dim: 32, decoder_ffn_dim: 32}",
]  # fmt: skip


def track1():
    counts = {"cls": range(196), "det": range(1, 46), "seg": range(19)}
    return {
        name: TaskMeta(name, "track1", [ClassInfo(i, f"class {i}") for i in ids], {}) for name, ids in counts.items()
    }


def parse(path, *more):
    return parse_recipe({}, (), ["--config", str(path), *more])[0]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_parses_and_its_deepspeed_json_agrees(path):
    recipe = parse(path)
    assert engine_config(recipe, ["cls", "det", "seg"])["zero_optimization"]["stage"] == 2
    assert "launch/" in path.read_text().split("\n\n")[0], "a recipe opens with the command that runs it"


@pytest.mark.parametrize("name", ["track1_vitb", "track1_vitl"])
def test_a_real_recipe_starts_from_published_weights_and_builds_at_full_size(name):
    recipe = parse(ROOT / "launch" / "recipes" / f"{name}.yaml")
    assert recipe.model.pretrained and recipe.train.precision == "bf16"
    recipe.model.pretrained = False
    with torch.device("meta"):
        model = build_model(recipe, track1())
    expected = {"track1_vitb": 85e6, "track1_vitl": 303e6}[name]
    own = sum(parameter.numel() for parameter in model.trunk.own_parameters())
    assert count_parameters(model.trunk) - own * 2 / 3 == pytest.approx(expected, rel=0.02), "three copies, or one"
    sides = [*recipe.tasks.cls.size, *recipe.tasks.det.size, *recipe.tasks.seg.crop]
    assert all(side % model.trunk.shape.patch == 0 for side in sides)


@pytest.mark.parametrize("name", ["track1_vitb", "track1_vitl"])
def test_a_real_recipe_trains_a_step_at_tiny_width(name):
    recipe = parse(ROOT / "launch" / "recipes" / f"{name}.yaml", "--model.pretrained", "false", *SMALL)
    model = build_model(recipe, track1()).train()
    images = torch.randint(0, 256, (1, 3, 112, 112), dtype=torch.uint8)
    box = {"class_labels": torch.tensor([3]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}
    targets = {"cls": torch.tensor([5]), "det": [box], "seg": torch.zeros(1, 112, 112, dtype=torch.long)}
    for task, target in targets.items():
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(Batch(task, images, target, [{"file_name": "a.jpg"}]))["loss"]
        loss.backward()
        assert torch.isfinite(loss)
    unreached = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert unreached == []
