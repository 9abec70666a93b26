"""A recipe with every craft on: trains, resumes to the bit, predicts and exports, on two ranks."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from entry_points import run

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from resume import RECIPE, differences, read_log  # noqa: E402

STRONG = {
    "cls": {"auto_augment": "randaugment", "random_erasing": 0.5, "mixup": 0.4, "cutmix": 1.0, "hue_jitter": 0.1},
    "det": {"scale_jitter": [0.1, 2.0], "crop_to_box": 0.5, "mosaic": 0.5, "copy_paste": 0.8, "hflip": 0.5,
            "loss": "equalised_focal"},
    "seg": {"rare_crops": 0.7, "cat_max_ratio": 0.75, "hue_jitter": 0.1, "jitter_prob": 0.5},
}  # fmt: skip
EVERYTHING = {
    **RECIPE,
    "tasks": {name: {**RECIPE["tasks"][name], **keys} for name, keys in STRONG.items()},
    "trunk": {
        "task_blocks": {"blocks": "last:1", "ffn": "learned", "norm": "specific", "attention": "learned"},
        "elastic": {"heads": [1, 2], "mlp": [0.5], "full": 0.5},
    },
    "optimizer": {"layer_decay": 0.8},
    "surgery": {"task_clip": 2.0, "log_blocks": True},
    "data": {"workers": 1},
    "train": {
        "steps": 6, "clip": 5.0, "precision": "bf16", "accumulate": 2, "ema": 0.9, "close_augment": 0.34, "gallery": 1,
        "eval_every": 0, "checkpoint_every": 3,
    },
    "prediction": {
        "cls": {"hflip": True, "scales": [1.0, 1.5]},
        "det": {"hflip": True, "scales": [1.0, 1.25], "tiles": 96},
        "seg": {"hflip": True, "scales": [1.0, 0.75], "window": [48, 64]},
    },
}  # fmt: skip
pytestmark = pytest.mark.multiprocess


def train(work, out, *more):
    where = ["--config", work / "everything.yaml", "--data.shards", work / "shards", "--run", out]
    return run("deepspeed", 2, "launch/train.py", *where, *more)


@pytest.fixture(scope="module")
def work(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything")
    (folder / "shards").symlink_to(toy / "shards")
    (folder / "everything.yaml").write_text(yaml.safe_dump(EVERYTHING))
    train(folder, folder / "run")
    return folder


def test_a_resumed_run_repeats_every_draw(work):
    """From the middle: before the closing steps, with other readers."""
    again = work / "again"
    shutil.copytree(work / "run", again)
    shutil.rmtree(again / "checkpoints" / "step-00000006")
    assert "resumed from" in train(work, again, "--resume", "--data.workers", "0").stdout
    whole, resumed = (read_log(folder / "log.jsonl") for folder in (work / "run", again))
    assert len(whole) == 6 and differences(whole, resumed) == []
    assert all("width" in row["trunk"] and set(row["trunk"]["own"]) == {"cls", "det", "seg"} for row in whole)
    expected, found = (folder / "weights/last/model.safetensors" for folder in (work / "run", again))
    assert expected.read_bytes() == found.read_bytes()


def test_an_exported_task_predicts_what_the_joint_model_predicts(work):
    run("launch/export.py", "--run", work / "run", "--task", "seg", "--out", work / "seg")
    sections = []
    for weights, ranks in ((work / "run", 2), (work / "seg", 1)):
        out = work / f"{weights.name}.json"
        run("deepspeed", ranks, "launch/predict.py", "--run", weights, "--shards", work / "shards", "--split", "val",
            "--out", out)  # fmt: skip
        sections.append(json.loads(out.read_text()))
    assert set(sections[0]) == {"cls", "dec", "seg"} and set(sections[1]) == {"seg"}
    assert sections[0]["seg"] == sections[1]["seg"]
