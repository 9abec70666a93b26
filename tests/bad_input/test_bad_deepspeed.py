"""DeepSpeed's JSON, broken or against the recipe."""

import json

import pytest
from refusals import DEEP, FILES, parametrized, refusal

from ufo_ds.command_line import ROOT
from ufo_ds.recipe import Recipe
from ufo_ds.training.engine_config import engine_config

SOUND = json.loads((ROOT / "ds_configs/zero2.json").read_text())
TASKS = ["cls", "det", "seg"]


def zero(**change):
    return {"zero_optimization": {**SOUND["zero_optimization"], **change}}


VALUES = {
    "no zero": ({"zero_optimization": None}, "zero_optimization.stage must be 2"),
    "zero a number": ({"zero_optimization": 2}, "zero_optimization.stage must be 2"),
    "zero a list": ({"zero_optimization": [2]}, "zero_optimization.stage must be 2"),
    "stage 0": (zero(stage=0), "zero_optimization.stage must be 2"),
    "stage 1": (zero(stage=1), "zero_optimization.stage must be 2"),
    "stage 3": (zero(stage=3), "zero_optimization.stage must be 2"),
    "stage text": (zero(stage="2"), "zero_optimization.stage must be 2"),
    "stage null": (zero(stage=None), "zero_optimization.stage must be 2"),
    "round robin": (zero(round_robin_gradients=True), "key 'zero_optimization.round_robin_gradients'"),
    "parameters offloaded": (zero(offload_param={"device": "cpu"}), "key 'zero_optimization.offload_param'"),
    "old offload": (zero(cpu_offload=True), "key 'zero_optimization.cpu_offload'"),
    "offload to disk": (zero(offload_optimizer={"device": "nvme"}), "offload_optimizer.device': it may be cpu or none"),
    "offload a list": (zero(offload_optimizer=["cpu"]), "offload_optimizer.device': it may be cpu or none"),
    "offload true": (zero(offload_optimizer=True), "offload_optimizer.device': it may be cpu or none"),
    "offload device a number": (zero(offload_optimizer={"device": 1}), "it may be cpu or none"),
    "fp16": ({"fp16": {"enabled": True}}, "key 'fp16'"),
    "fp16 auto": ({"fp16": {"enabled": "auto"}}, "key 'fp16'"),
    "fp16 a word": ({"fp16": "yes"}, "key 'fp16'"),
    "bf16": ({"bf16": {"enabled": True}}, "key 'bf16'"),
    "autocast": ({"torch_autocast": {"enabled": True}}, "key 'torch_autocast'"),
    "optimizer": ({"optimizer": {"type": "Adam"}}, "key 'optimizer': remove it"),
    "scheduler": ({"scheduler": {"type": "WarmupLR"}}, "key 'scheduler': remove it"),
    "breakdown": ({"wall_clock_breakdown": True}, "key 'wall_clock_breakdown'"),
    "batch": ({"train_batch_size": 8}, "key 'train_batch_size'"),
    "micro batch": ({"train_micro_batch_size_per_gpu": 7}, "tasks.<task>.batch"),
    "micro batch text": ({"train_micro_batch_size_per_gpu": "auto"}, "tasks.<task>.batch"),
    "clipping": ({"gradient_clipping": 1.0}, "the recipe's train.clip makes it 0.0"),
    "clipping NaN": ({"gradient_clipping": float("nan")}, "key 'gradient_clipping' is nan"),
    "clipping text": ({"gradient_clipping": "auto"}, "key 'gradient_clipping' is auto"),
    "accumulation": ({"gradient_accumulation_steps": 2}, "key 'gradient_accumulation_steps' must be 1"),
    "accumulation text": ({"gradient_accumulation_steps": "auto"}, "key 'gradient_accumulation_steps' must be 1"),
    "accumulation null": ({"gradient_accumulation_steps": None}, "key 'gradient_accumulation_steps' must be 1"),
}


def configure(given):
    return engine_config(Recipe(deepspeed=given), TASKS)


@parametrized(VALUES)
def test_what_the_surgery_cannot_work_with_is_named(tmp_path, case):
    change, fragment = case
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({**SOUND, **change}))
    refusal(lambda: configure(str(path)), tmp_path, str(path), fragment)
    refusal(lambda: configure({**SOUND, **change}), tmp_path, "key 'deepspeed'", fragment)


@pytest.mark.parametrize("name", [name for name in FILES if name != "link to itself"])
def test_a_file_that_is_no_json_is_named(tmp_path, name):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(SOUND))
    FILES[name](path)
    refusal(lambda: configure(str(path)), tmp_path, str(path))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "2",
        '"zero2"',
        "{",
        "{}",
        "[" * DEEP,
        '{"a":' * DEEP,
        '{"zero_optimization": {"stage": 2}}x',
        "{'zero_optimization': {}}",
        "9" * 5000,
        '{"zero_optimization": {}}',
        "// none\n{}",
    ],
    ids=lambda text: text[:20],
)
def test_a_json_that_is_no_configuration_is_named(tmp_path, text):
    (tmp_path / "ds.json").write_text(text)
    refusal(lambda: configure(str(tmp_path / "ds.json")), tmp_path, str(tmp_path / "ds.json"))


def test_the_sound_one_is_taken():
    assert configure(SOUND)["zero_optimization"]["stage"] == 2
