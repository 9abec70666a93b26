"""Exports: one task scores as in the joint model, ONNX gives the model's outputs, and a failed check leaves nothing."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ufo_ds.assembly import CONFIG, build_model, count_parameters, load_model, save_weights
from ufo_ds.command_line import recipe_from
from ufo_ds.data.folders import open_folder
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import open_shards
from ufo_ds.distributed import ObjectExchange, Ranks
from ufo_ds.errors import UserError
from ufo_ds.export import ImageSource, export, onnx_file, parity
from ufo_ds.export.queries import is_tie
from ufo_ds.prediction import predictions
from ufo_ds.recipe import ElasticConfig, TaskBlocksConfig, TrunkConfig, Width
from ufo_ds.training.evaluation import Evaluator

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent / "shards")]

from small_download import Download  # noqa: E402
from test_assembly import VALUES  # noqa: E402

ODD = {**VALUES, "tasks": {**VALUES["tasks"], "cls": {"size": [24, 40]}, "seg": {"crop": [32, 48], "width": 16}}}
"""cls at a size that the other heads' pyramids have padded."""


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """(shards, weights) of a small model of three tasks, its weights large enough that inputs make a difference."""
    folder = tmp_path_factory.mktemp("joint")
    download = Download(folder)
    download.build()
    recipe = recipe_from(ODD, "test")
    metas = {name: TaskMeta.read(download.out, name) for name in ("cls", "det", "seg")}
    torch.manual_seed(0)
    model = build_model(recipe, metas).eval()
    torch.nn.init.normal_(model.heads["cls"].classifier.weight)
    torch.nn.init.normal_(model.heads["seg"].classifier.weight)
    save_weights(model, recipe, metas, folder / "weights")
    return download.out, folder / "weights"


def scores(weights, shards, task):
    """The figures of one task on val, by the code that scores a run."""
    model, recipe, _ = load_model(weights)
    metas = {task: TaskMeta.read(shards, task)}
    recipe.data.workers, exchange = 0, ObjectExchange(Ranks(0, 1, 0, 1))
    sets = {task: open_shards(shards, task, "val", metas[task])}
    return Evaluator(recipe, metas, sets, exchange, torch.device("cpu")).scores(model)[0][task]


@pytest.mark.parametrize("task", ["cls", "det", "seg"])
def test_one_task_scores_on_val_as_in_the_joint_model(joint, tmp_path, capsys, task):
    shards, weights = joint
    images = ImageSource(open_folder(str(shards)), "val", 3)
    assert export(weights, tmp_path / "out", task, images=images) == {task: 0.0}
    printed = capsys.readouterr().out
    assert "on 3 images of val" in printed and f"latency {task}: before " in printed and "ratio 0." in printed
    assert scores(tmp_path / "out", shards, task) == scores(weights, shards, task)


def test_a_head_left_behind_still_says_how_the_input_is_padded(joint, tmp_path):
    _, weights = joint
    model, recipe, _ = load_model(weights)
    export(weights, tmp_path / "cls", "cls")
    again, _, _ = load_model(tmp_path / "cls")
    assert again.trunk.multiple == model.trunk.multiple == 32 and recipe.tasks.cls.size == (24, 40)
    config = json.loads((tmp_path / "cls" / CONFIG).read_text())
    for multiple in (0, "many", 2**70):
        config["trunk"]["multiple"] = multiple
        (tmp_path / "cls" / CONFIG).write_text(json.dumps(config))
        with pytest.raises(UserError, match=r"key 'trunk\.multiple'"):
            load_model(tmp_path / "cls")


def test_a_routed_and_elastic_model_is_cut_to_a_task_and_a_size(joint, tmp_path, capsys):
    shards, weights = joint
    _, recipe, metas = load_model(weights)
    recipe.trunk = TrunkConfig(
        TaskBlocksConfig("last:1", "learned", "specific", "specific"),
        elastic=ElasticConfig(depth=[recipe.model.depths], mlp=[0.5]),
    )
    torch.manual_seed(1)
    model = build_model(recipe, metas).eval()
    for parameter in model.trunk.own_parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_weights(model, recipe, metas, tmp_path / "routed")
    images = ImageSource(open_folder(str(shards)), "val", 3)
    for number, size in enumerate((Width(), Width(depth=recipe.model.depths, mlp=0.5))):
        out = tmp_path / str(number)
        for task, difference in export(tmp_path / "routed", out, "seg", size=size, images=images).items():
            assert task == "seg" and difference <= 1e-6
        small, _, _ = load_model(out)
        assert not small.trunk.own_parameters() and small.trunk.settings.sliced == size
    assert scores(tmp_path / "0", shards, "seg") == scores(tmp_path / "routed", shards, "seg")
    assert count_parameters(load_model(tmp_path / "1")[0]) < count_parameters(load_model(tmp_path / "0")[0])
    with pytest.raises(UserError, match=r"--heads 1: this trunk was not trained for it; .* trunk\.elastic\.heads"):
        export(tmp_path / "routed", tmp_path / "no", "seg", size=Width(heads=1))
    assert not (tmp_path / "no").exists()


def test_onnx_follows_the_ways_that_are_learned(joint, tmp_path):
    _, weights = joint
    _, recipe, metas = load_model(weights)
    recipe.trunk = TrunkConfig(TaskBlocksConfig("last:1", "learned", "specific", "learned"))
    model = build_model(recipe, metas).eval()
    for parameter in model.trunk.own_parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    onnx_file.write(model, "seg", (30, 40), 20, tmp_path / "seg.onnx")
    noise = torch.randint(0, 256, (3, 3, 30, 40), dtype=torch.uint8)
    ours = model.raw("seg", noise)["logits"].numpy()
    found = onnx_file.open_session(tmp_path / "seg.onnx").run(None, {"images": noise.numpy()})[0]
    assert np.abs(ours - found).max() < 1e-4 * np.ptp(ours)


def test_onnx_of_the_outputs_with_any_batch(joint, tmp_path, capsys):
    shards, weights = joint
    images = ImageSource(open_folder(str(shards)), "val", 3)
    export(weights, tmp_path / "out", "seg", opset=20, images=images)
    entry = json.loads((tmp_path / "out" / CONFIG).read_text())["onnx"]["seg"]
    assert entry["opset"] == 20 and entry["file"] == "seg.onnx" and entry["padded"] == [32, 64]
    assert entry["inputs"] == {"images": {"type": "tensor(uint8)", "shape": ["batch", 3, 30, 40]}}
    assert list(entry["outputs"]) == ["logits"] and entry["outputs"]["logits"]["shape"][0] == "batch"
    printed = capsys.readouterr().out
    assert "onnx seg: largest difference logits " in printed and "onnxruntime " in printed
    model, _, _ = load_model(weights)
    session = onnx_file.open_session(tmp_path / "out" / "seg.onnx")
    for batch in (1, 5):
        noise = torch.randint(0, 256, (batch, 3, 30, 40), dtype=torch.uint8)
        ours = model.raw("seg", noise)["logits"].numpy()
        assert np.abs(ours - session.run(None, {"images": noise.numpy()})[0]).max() < 1e-4 * np.ptp(ours)
    export(weights, tmp_path / "out", "cls")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [CONFIG, "model.safetensors"]


def test_the_documented_decoding_gives_the_boxes_of_predict(joint, tmp_path):
    """With the default decoder; the other one differs in fewer operators than it shares."""
    shards, _ = joint
    metas = {"det": TaskMeta.read(shards, "det")}
    values = {**VALUES["tasks"]["det"], "size": [30, 40]}
    values["decoder_kwargs"] = {**values["decoder_kwargs"], "depth_mult": 0.34}
    recipe = recipe_from({**VALUES, "tasks": {"det": values}}, "test")
    torch.manual_seed(0)
    save_weights(build_model(recipe, metas).eval(), recipe, metas, tmp_path / "weights")
    export(tmp_path / "weights", tmp_path / "out", opset=23, images=ImageSource(open_folder(str(shards)), "val", 3))
    text = (Path(__file__).resolve().parents[1] / "docs" / "recipes.md").read_text()
    example = {}
    exec(text.split("```python\n")[1].split("```")[0], example)
    loaded = example["load"](tmp_path / "out")
    model, recipe, _ = load_model(tmp_path / "out")
    recipe.data.workers, exchange = 0, ObjectExchange(Ranks(0, 1, 0, 1))
    sets = open_shards(shards, "det", "val")
    found = list(predictions(model, recipe, "det", sets, metas["det"], exchange, torch.device("cpu"), progress=False))
    assert len(found) == 3
    for raw, ours in zip(sets, found, strict=True):
        boxes, scores, ids = example["detect"](Image.open(io.BytesIO(raw.image)), *loaded)
        assert boxes.shape == ours.boxes.shape and len(boxes) > 3
        assert np.abs(scores - ours.scores).max() < 1e-5
        order, same = (
            np.lexsort((side[2].round(3), side[0].sum(1).round(1)))
            for side in ((boxes, scores, ids), (ours.boxes, ours.scores, ours.category_ids))
        )
        assert np.abs(boxes[order] - ours.boxes[same]).max() < 1e-3
        assert np.array_equal(ids[order], ours.category_ids[same])


def test_a_failed_check_leaves_what_was_there(joint, tmp_path, monkeypatch):
    _, weights = joint
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    monkeypatch.setattr("ufo_ds.export.TOLERANCE", -1.0)
    with pytest.raises(UserError, match="nothing was written"):
        export(weights, tmp_path / "new", "cls")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / CONFIG).write_text("old")
    with pytest.raises(UserError, match="nothing was written"):
        export(weights, tmp_path / "old", "cls")
    assert (tmp_path / "old" / CONFIG).read_text() == "old" and len(list(tmp_path.rglob("*"))) == 2


@pytest.mark.parametrize("opset", [17, 24])
def test_an_opset_that_the_exporter_has_not(joint, tmp_path, opset):
    with pytest.raises(UserError, match=f"--opset {opset}: must be 18 to 23"):
        export(joint[1], tmp_path / "out", "cls", opset=opset)


def test_without_the_packages_the_line_says_how_to_get_them(joint, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(UserError, match=r"onnxruntime is not installed: pip install 'ufo-ds\[onnx\]'"):
        export(joint[1], tmp_path / "out", "cls", opset=20)


def test_queries_are_compared_with_their_partners():
    generator = np.random.default_rng(0)
    ours = {"logits": generator.normal(size=(30, 3)), "boxes": generator.uniform(size=(30, 4))}
    order = generator.permutation(30)
    theirs = {name: value[order] + 1e-7 for name, value in ours.items()}
    assert max(parity.relative_differences(ours, theirs).values()) < 1e-6
    theirs["boxes"][4, 2] += 0.1
    assert parity.relative_differences(ours, theirs)["boxes"] > 0.05
    theirs["boxes"][4, 2] = np.nan
    assert parity.relative_differences(ours, theirs)["boxes"] == float("inf")


def test_a_choice_of_queries_is_a_tie_where_scores_are_level(joint):
    model, _, _ = load_model(joint[1])
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    assert not is_tie(model, "det", image)
    torch.nn.init.zeros_(model.heads["det"].decoder.model.enc_score_head.weight)
    assert is_tie(model, "det", image) and not is_tie(model, "seg", image)
