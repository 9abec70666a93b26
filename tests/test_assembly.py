import json

import pytest
import torch

from ufo_ds.assembly import (
    CONFIG,
    WEIGHTS,
    build_model,
    find_weights,
    load_fitting,
    load_model,
    save_weights,
    values_of,
)
from ufo_ds.command_line import recipe_from
from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.export import export

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
VALUES = {
    "model": {"trunk": "vit_tiny_patch16_224", "trunk_kwargs": TINY, "pretrained": False, "depths": 2},
    "train": {"precision": "fp32"},
    "tasks": {
        "cls": {"size": [32, 32]},
        "seg": {"crop": [32, 48], "width": 16},
        "det": {
            "size": [32, 32],
            "width": 32,
            "levels": [8, 16],
            "decoder_kwargs": {
                "decoder_layers": 2,
                "num_queries": 8,
                "encoder_ffn_dim": 32,
                "decoder_ffn_dim": 32,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
            },
        },
    },
}


def metas(**classes):
    return {
        name: TaskMeta(name, "test", [ClassInfo(i, f"class {i}") for i in ids], {}) for name, ids in classes.items()
    }


@pytest.fixture
def saved(tmp_path):
    recipe, classes = recipe_from(VALUES, "test"), metas(cls=[0, 1, 2], det=[2, 5, 7], seg=range(4))
    torch.manual_seed(0)
    model = build_model(recipe, classes).eval()
    save_weights(model, recipe, classes, tmp_path / "run" / "weights" / "best")
    return model, recipe, classes, tmp_path / "run"


def images(count=2):
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)


def test_weights_bring_the_model_back(saved):
    model, recipe, classes, run = saved
    again, resolved, read = load_model(run)
    assert {name: meta.class_ids for name, meta in read.items()} == {
        name: meta.class_ids for name, meta in classes.items()
    }
    assert resolved.tasks.det.decoder_kwargs == recipe.tasks.det.decoder_kwargs
    for task in classes:
        for name, value in model.raw(task, images := torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).items():
            assert torch.equal(value, again.raw(task, images)[name])


def test_export_of_one_task_holds_only_its_path_and_gives_the_same_outputs(saved, tmp_path, capsys):
    _model, _, _, run = saved
    parity = export(run, tmp_path / "det", "det")
    assert parity == {"det": 0.0} and "parity det" in capsys.readouterr().out
    again, _, read = load_model(tmp_path / "det")
    assert list(read) == ["det"] and not any(name.startswith("heads.cls") for name in again.state_dict())
    assert (tmp_path / "det" / WEIGHTS).stat().st_size < (find_weights(run) / WEIGHTS).stat().st_size
    with pytest.raises(UserError, match="have only det"):
        export(tmp_path / "det", tmp_path / "seg", "seg")
    with pytest.raises(UserError, match="name another folder"):
        export(tmp_path / "det", tmp_path / "det")


def test_other_classes_remake_what_does_not_fit_and_say_which(saved):
    model, recipe, _, run = saved
    torch.manual_seed(1)
    other = build_model(recipe, metas(cls=[0, 1, 2], det=[1, 2]))
    found = load_fitting(other, run)
    assert found["taken"] == ["trunk", "heads.cls"] and found["absent"] == []
    assert all(name.startswith("heads.det.decoder.") for name in found["remade"]) and found["remade"]
    assert torch.equal(other.trunk.vit.pos_embed, model.trunk.vit.pos_embed)
    kept = "heads.det.decoder.model.decoder.layers.0.fc1.weight"
    state = other.state_dict()
    kept = kept if kept in state else next(n for n in state if "decoder.layers.0" in n and n.endswith("weight"))
    assert torch.equal(state[kept], model.state_dict()[kept])


def test_a_task_that_the_weights_lack_is_new(saved, tmp_path):
    _, recipe, _, run = saved
    export(run, tmp_path / "cls", "cls")
    found = load_fitting(build_model(recipe, metas(cls=[0, 1, 2], seg=range(4))), tmp_path / "cls")
    assert found == {"taken": ["trunk", "heads.cls"], "remade": [], "absent": ["heads.seg"]}


def test_values_of_weights_are_a_recipe_without_downloads(saved):
    *_, run = saved
    values = values_of(run)
    assert values["model"]["pretrained"] is False and values["model"]["trunk_kwargs"] == TINY
    assert recipe_from(values, "weights").tasks.seg.width == 16


def test_weights_of_another_trunk_are_refused(saved):
    _, recipe, classes, run = saved
    recipe.model.trunk_kwargs = {**TINY, "embed_dim": 24}
    with pytest.raises(UserError, match="the trunk is another one"):
        load_fitting(build_model(recipe, classes), run)


@pytest.mark.parametrize("damage", ["absent", "cut", "text", "config", "config keys", "swapped"])
def test_damaged_weights_get_one_line(saved, damage):
    _, _recipe, _, run = saved
    folder = find_weights(run)
    if damage == "absent":
        (folder / WEIGHTS).unlink()
    elif damage == "cut":
        data = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    elif damage == "text":
        (folder / WEIGHTS).write_text("not a safetensors file")
    elif damage == "config":
        (folder / CONFIG).write_text("{")
    elif damage == "config keys":
        config = json.loads((folder / CONFIG).read_text())
        del config["tasks"]["cls"]["classes"]
        (folder / CONFIG).write_text(json.dumps(config))
    else:
        config = json.loads((folder / CONFIG).read_text())
        config["tasks"]["cls"]["classes"].pop()
        (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        load_model(run)
    assert str(run) in str(error.value) and "\n" not in str(error.value)
