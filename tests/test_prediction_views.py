"""The section `prediction` from a recipe to predictions: plain unless told otherwise."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ufo_ds.assembly import CONFIG, build_model, load_model, save_weights, values_of
from ufo_ds.command_line import parse_section, recipe_from
from ufo_ds.data.folders import open_folder
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import open_shards
from ufo_ds.data.stream import evaluation_batches
from ufo_ds.distributed import ObjectExchange, find_ranks
from ufo_ds.errors import UserError
from ufo_ds.model.joint import JointModel
from ufo_ds.prediction import predict, predictions
from ufo_ds.recipe import PredictionConfig
from ufo_ds.recipe.prediction import is_plain
from ufo_ds.tasks import get_task
from ufo_ds.training.evaluation import Evaluator

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent / "shards")]

from small_download import Download  # noqa: E402
from test_assembly import VALUES  # noqa: E402

TASKS = ("cls", "det", "seg")
MANY = {
    "cls": {"hflip": True, "scales": [1.0, 0.75]},
    "det": {"hflip": True, "scales": [1.0, 1.25], "tiles": 24},
    "seg": {"hflip": True, "scales": [1.0, 1.5], "window": [24, 32]},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Shards of a small download, and an untrained model for it."""
    download = Download(tmp_path_factory.mktemp("views"))
    download.build()
    metas = {name: TaskMeta.read(download.out, name) for name in TASKS}
    recipe = recipe_from({**VALUES, "data": {"workers": 0, "shards": str(download.out)}}, "test")
    torch.manual_seed(0)
    return download.out, recipe, metas, build_model(recipe, metas).eval()


@pytest.fixture(autouse=True)
def one_rank(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)


def plain_values(prediction):
    return {key: np.asarray(value).tolist() for key, value in vars(prediction).items()}


def found(work, name, views):
    folder, _, metas, model = work
    asked = recipe_from({**VALUES, "prediction": {name: views}}, "test")
    asked.data.workers = 0
    shards, exchange = open_shards(folder, name, "val"), ObjectExchange(find_ranks())
    answers = predictions(model, asked, name, shards, metas[name], exchange, torch.device("cpu"), progress=False)
    return [plain_values(prediction) for prediction in answers]


@pytest.mark.parametrize("name", TASKS)
def test_without_a_word_predictions_are_the_heads_own(work, name):
    folder, recipe, metas, model = work
    task, config = get_task(name), getattr(recipe.tasks, name)
    transform = task.eval_transform(config, metas[name])
    batches = evaluation_batches(open_shards(folder, name, "val"), transform, task.collate, batch=config.batch)
    expected = [plain_values(prediction) for batch in batches for prediction in model.predict(batch)]
    assert found(work, name, {}) == expected and len(expected) == 3


@pytest.mark.parametrize("name", TASKS)
def test_many_views_change_the_answer(work, name):
    several = found(work, name, MANY[name])
    assert several != found(work, name, {}) and len(several) == 3
    if name == "det":
        assert all(len(each["scores"]) and 0 <= min(each["scores"]) <= max(each["scores"]) <= 1 for each in several)
    if name == "seg":
        assert np.shape(several[0]["mask"]) == (30, 40)


def test_views_that_agree_change_nothing(work):
    """Scale 1 twice over: the mean of one and the same."""
    once, twice = (found(work, "cls", {"scales": scales}) for scales in ([1.0], [1.0, 1.0]))
    assert [each["label"] for each in once] == [each["label"] for each in twice]
    assert [each["confidence"] for each in once] == pytest.approx([each["confidence"] for each in twice], abs=1e-6)
    masks = [[each["mask"] for each in found(work, "seg", {"scales": scales})] for scales in ([1.0], [1.0, 1.0])]
    assert masks[0] == masks[1]


def test_weights_carry_the_section_and_old_ones_have_none(work, tmp_path):
    _, recipe, metas, model = work
    recipe = recipe_from({**VALUES, "prediction": {**MANY, "in_training": True}}, "test")
    save_weights(model, recipe, metas, tmp_path)
    assert load_model(tmp_path)[1].prediction == recipe.prediction
    assert recipe_from(values_of(tmp_path), "test").prediction == recipe.prediction
    config = json.loads((tmp_path / CONFIG).read_text())
    del config["prediction"]
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert load_model(tmp_path)[1].prediction == PredictionConfig()
    config["prediction"] = {"det": {"tiles": "many"}}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config.json: key 'prediction.det.tiles' is many: expected int"):
        load_model(tmp_path)


@pytest.mark.multiprocess
def test_predict_asks_as_the_weights_say_unless_told_otherwise(work, tmp_path, monkeypatch):
    folder, _, metas, model = work
    recipe = recipe_from({**VALUES, "prediction": {"cls": {"scales": [0.5]}}}, "test")
    part = JointModel(model.trunk, {"cls": model.heads["cls"]})
    save_weights(part, recipe, {"cls": metas["cls"]}, tmp_path / "weights")
    threads = torch.get_num_threads()
    asked, own = [], JointModel.predict_views
    monkeypatch.setattr(JointModel, "predict_views", lambda self, views, config: (
        asked.append(config) or own(self, views, config)))  # fmt: skip
    mirrored = {"cls": {"hflip": True}}
    for options in ({}, {"plain": True}, {"views": mirrored}, {"plain": True, "views": mirrored}):
        out = tmp_path / "out.json"
        predict(tmp_path / "weights", open_folder(str(folder)), "val", out, workers=0, threads=1, **options)
    torch.set_num_threads(threads)
    assert [(config.hflip, config.scales) for config in asked] == [(False, (0.5,)), (True, (0.5,)), (True, (1.0,))]


@pytest.mark.parametrize("in_training", [False, True])
def test_training_evaluates_plainly_unless_told(work, in_training):
    _, _, metas, _ = work
    recipe = recipe_from({**VALUES, "prediction": {**MANY, "in_training": in_training}}, "test")
    evaluator = Evaluator(recipe, metas, {}, ObjectExchange(find_ranks()), torch.device("cpu"))
    assert is_plain(evaluator.recipe.prediction.det) is not in_training
    assert not is_plain(recipe.prediction.det), "the weights keep it"


def test_the_command_line_takes_each_key():
    own = [(("--run",), {"type": str}), (("--cache-gib",), {"type": float})]
    argv = ["--run", "x", "--cache-gib=3", "--prediction.det.tiles", "512", "--prediction.seg.window", "[64, 96]"]
    views, arguments = parse_section({}, own, argv, "prediction")
    assert views["det"] == {"tiles": 512} and tuple(views["seg"]["window"]) == (64, 96) and arguments.run == "x"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--prediction.det.tile", "512"], "unknown key 'prediction.det.tile'; did you mean 'prediction.det.tiles'?"),
        (["--train.steps", "5"], "unknown key 'train.steps'"),
        (["--prediction.det.tiles", "3"], "key 'prediction.det.tiles' is 3: must be 16 to 16384 pixels, or null"),
        (["--prediction.cls.scales", "[]"], "key 'prediction.cls.scales' is (): must be 1 to 16 factors"),
        (["--prediction.cls.scales", "[1, 9]"], "must be 1 to 16 factors of 0.1 to 8"),
        (["--prediction.seg.window", "[8, 64]"], "key 'prediction.seg.window' is (8, 64): must be (height, width)"),
        (["--prediction.seg.overlap", "0.9"], "key 'prediction.seg.overlap' is 0.9: must be in 0..0.75"),
        (["--prediction.det.iou", "0"], "key 'prediction.det.iou' is 0.0: must be in (0, 1]"),
        (["--prediction.det.fusion", "mean"], "expected one of ['wbf', 'nms']"),
    ],
)
def test_a_mistake_gets_one_line(argv, line):
    with pytest.raises(UserError) as error:
        parse_section({}, [], argv, "prediction")
    assert line in str(error.value) and "\n" not in str(error.value)
