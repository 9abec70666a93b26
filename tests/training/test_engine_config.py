import json

import pytest

from ufo_ds.command_line import ROOT
from ufo_ds.errors import UserError
from ufo_ds.recipe import Recipe
from ufo_ds.training.engine_config import engine_config, offload_device

TASKS = ["cls", "det", "seg"]


def recipe_with(deepspeed, **train):
    recipe = Recipe(deepspeed=deepspeed)
    for key, value in train.items():
        setattr(recipe.train, key, value)
    return recipe


@pytest.mark.parametrize("path", sorted((ROOT / "ds_configs").glob("*.json")), ids=lambda path: path.name)
def test_every_shipped_json_is_loadable_by_deepspeed_and_by_us(path):
    from deepspeed.runtime.config import DeepSpeedConfig

    assert DeepSpeedConfig(str(path)).zero_optimization_stage == 2
    settings = engine_config(recipe_with(str(path)), TASKS)
    assert DeepSpeedConfig(settings).zero_optimization_stage == 2


def test_batch_precision_and_clipping_come_from_the_recipe():
    recipe = recipe_with("ds_configs/zero2.json", precision="bf16", clip=0.0)
    recipe.tasks.cls.batch, recipe.tasks.det.batch, recipe.tasks.seg.batch = 7, 2, 3
    settings = engine_config(recipe, TASKS)
    assert settings["train_micro_batch_size_per_gpu"] == 12
    assert settings["gradient_clipping"] == 0.0, "unset, DeepSpeed clips at 1.0"
    assert settings["torch_autocast"] == {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    assert settings["communication_data_type"] == "fp32"
    recipe.train.exact_reduce = False
    assert "lower_precision_safe_modules" not in engine_config(recipe, TASKS)["torch_autocast"]
    recipe.train.precision = "fp32"
    assert engine_config(recipe, TASKS)["torch_autocast"]["enabled"] is False


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"zero_optimization": {"stage": 1}}, "zero_optimization.stage must be 2"),
        ({"zero_optimization": {"stage": 2, "round_robin_gradients": True}}, "round_robin_gradients"),
        ({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}, "zero_optimization.offload_param"),
        ({"zero_optimization": {"stage": 2, "cpu_offload": True}}, "zero_optimization.cpu_offload"),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme"}}}, "may be cpu or none"),
        ({"fp16": {"enabled": True}}, "key 'fp16'"),
        ({"bf16": {"enabled": True}}, "key 'bf16'"),
        ({"torch_autocast": {"enabled": True}}, "key 'torch_autocast'"),
        ({"gradient_clipping": 3.0}, "key 'gradient_clipping' is 3.0, the recipe's train.clip makes it 0.0"),
        ({"train_micro_batch_size_per_gpu": 99}, "tasks.<task>.batch"),
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps"),
        ({"wall_clock_breakdown": True}, "wall_clock_breakdown"),
        ({"optimizer": {"type": "AdamW"}}, "key 'optimizer'"),
    ],
)
def test_what_contradicts_the_recipe_is_refused(change, line):
    settings = {"zero_optimization": {"stage": 2}, **change}
    with pytest.raises(UserError) as error:
        engine_config(recipe_with(settings), TASKS)
    assert line in str(error.value)


def test_a_missing_or_broken_json_is_named(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for path in (tmp_path / "absent.json", broken):
        with pytest.raises(UserError, match=path.name):
            engine_config(recipe_with(str(path)), TASKS)
    broken.write_text(json.dumps([1]))
    with pytest.raises(UserError, match="JSON object"):
        engine_config(recipe_with(str(broken)), TASKS)


def test_optimizer_offload_to_the_cpu_is_taken():
    settings = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    files = [("ds_configs/zero2_offload.json", "cpu"), ("ds_configs/zero2.json", "none")]
    for given, device in [(settings, "cpu"), *files]:
        assert offload_device(engine_config(recipe_with(given), TASKS)) == device
