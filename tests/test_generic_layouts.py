"""Data of any layout train, from other weights, with no option but paths: several tasks on two ranks."""

import json
import sys
from pathlib import Path

import pytest
from test_end_to_end import TINY, run

from ufo_ds.assembly import build_model, save_weights
from ufo_ds.command_line import recipe_from
from ufo_ds.data.schema import TaskMeta

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/shards")]

from small_layouts import OBJECT, XML, build, image, make_folder, make_masks, make_voc, write  # noqa: E402

pytestmark = pytest.mark.multiprocess


def write_weights(folder, shards):
    """Of a tiny model of three tasks, as it was born."""
    recipe = recipe_from({key: TINY[key] for key in ("model", "tasks", "train")}, "a recipe")
    metas = {task: TaskMeta.read(shards, task) for task in ("cls", "det", "seg")}
    save_weights(build_model(recipe, metas), recipe, metas, folder)


def crowded(raw):
    """An image of more boxes than the tiny decoder has queries."""
    objects = "".join(OBJECT.format(name="sign", difficult=0, box=(1 + n, 1, 9 + n, 20)) for n in range(12))
    write(raw / "Annotations/train_0.xml", XML.format(stem="train_0", size=(70, 40), objects=objects))
    return raw


def test_three_layouts_finetune_on_two_ranks_with_paths_alone(tmp_path, toy):
    """Fewer images than ranks, than batches; other classes and sizes; no val but for one task; test without labels."""
    write_weights(tmp_path / "weights", toy / "shards")
    cars, signs, roads, shards = (tmp_path / name for name in ("cars", "signs", "roads", "shards"))
    make_folder(cars, {"train": 3}, size=(32, 32))
    crowded(make_voc(signs, {"train": 3, "val": 1}, size=(70, 40)))
    make_masks(roads, {"train": 1}, size=(600, 200), ids=1)
    write(roads / "classes.txt", "road\n")
    for raw in (cars / "test/unknown", roads / "images/test"):
        image(raw / "9.jpg", (50, 90))
    for layout, raw in (("folder", cars), ("voc", signs), ("masks", roads)):
        build(layout, raw, shards)
    done = run("deepspeed", 2, "launch/finetune.py", "--config", "launch/recipes/finetune.yaml", "--weights",
               tmp_path / "weights", "--data.shards", shards, "--run", tmp_path / "tuned")  # fmt: skip
    text = done.stdout + done.stderr
    assert "seg: 1 training images are fewer than a step's 2 on each of 2 rank(s); tasks.seg.batch is 1" in text
    assert "det: 3 training images are fewer than a step's 2 on each of 2 rank(s); tasks.det.batch is 1" in text
    assert "cls: " not in text.split("tasks.det.batch is 1")[1].splitlines()[0]
    assert "note: train_0.jpg: 12 boxes, but the decoder has 8 queries" in text
    log = [json.loads(line) for line in (tmp_path / "tuned/log.jsonl").read_text().splitlines()]
    assert len(log) == 15 and set(log[-1]["val"]) == {"det", "average"}  # 10 passes over the signs, two a step
    assert all(value == value for row in log for value in row["loss"].values())
    kept = json.loads((tmp_path / "tuned/weights/last/config.json").read_text())["tasks"]
    assert kept["det"]["config"]["batch"] == kept["seg"]["config"]["batch"] == 2, "lowered for these data alone"
    run("launch/predict.py", "--run", tmp_path / "tuned", "--shards", shards, "--out", tmp_path / "test.json")
    section = json.loads((tmp_path / "test.json").read_text())
    assert section["cls"][0].keys() == {"unknown/9.jpg"} and section["seg"][0].keys() == {"9.png"}
