"""The preview shows the samples of the run's own streams; those, with all that is strong, depend on the step alone."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ufo_ds.assembly import read_metas
from ufo_ds.distributed import Ranks
from ufo_ds.errors import UserError
from ufo_ds.recipe import ClsConfig, DataConfig, DetConfig, Recipe, SegConfig
from ufo_ds.tasks import get_task
from ufo_ds.training.mixing import Mixer
from ufo_ds.training.preview import COLUMNS, GAP, write_preview
from ufo_ds.training.streams import make_streams

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/shards"))
from small_download import Download  # noqa: E402


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return Download(tmp_path_factory.mktemp("preview")).build()


@pytest.fixture
def recipe(shards):
    """Everything that is strong, on."""
    made = Recipe(data=DataConfig(shards=str(shards), workers=0))
    made.train.steps = 10
    made.tasks.cls = ClsConfig(batch=3, size=(48, 48), auto_augment="randaugment", random_erasing=0.5, mixup=0.4,
                               cutmix=1.0, mix_prob=0.8, hue_jitter=0.1, jitter_prob=0.5)  # fmt: skip
    made.tasks.det = DetConfig(batch=2, size=(64, 64))
    made.tasks.seg = SegConfig(batch=2, crop=(24, 32), rare_crops=0.5, cat_max_ratio=0.75, hue_jitter=0.1)
    return made


def batches(recipe, metas, start, count, workers=0):
    """The next batches of each task, as the network gets them."""
    recipe.data.workers = workers
    streams, mixer = make_streams(recipe, metas, Ranks(0, 1, 0, 1), start), Mixer(recipe, metas, 0)
    found = {}
    for name, stream in streams.items():
        with stream:
            found[name] = [mixer(next(stream), start + i) for i in range(count)]
    return found


def test_strong_batches_depend_neither_on_the_readers_nor_on_the_start(recipe):
    metas = {name: meta for name, meta in read_metas(recipe).items() if name != "det"}
    whole = batches(recipe, metas, 0, 5)
    torch.manual_seed(8)
    for start, workers in ((3, 0), (3, 2)):
        for name, found in batches(recipe, metas, start, 2, workers).items():
            for mine, theirs in zip(found, whole[name][start:], strict=True):
                assert torch.equal(mine.images, theirs.images) and torch.equal(mine.targets, theirs.targets)
    assert any(batch.targets.ndim == 2 for batch in whole["cls"]), "nothing was mixed"


def test_the_sheet_holds_the_samples_of_the_step_and_those_after_it(recipe, tmp_path):
    recipe.train.accumulate = 2
    metas = read_metas(recipe)
    written = write_preview(recipe, tmp_path / "p.png", images=5, step=3)
    assert written == [tmp_path / f"p-{name}.png" for name in ("cls", "det", "seg")]
    for name, found in batches(recipe, metas, 4, 3).items():
        sheet = cv2.imread(str(tmp_path / f"p-{name}.png"))[..., ::-1]
        samples = [pair for batch in found for pair in zip(batch.images, batch.targets, strict=True)]
        width = (sheet.shape[1] - GAP * (COLUMNS + 1)) // COLUMNS
        for place, (image, target) in enumerate(samples[:COLUMNS]):
            pixels = np.ascontiguousarray(image.round().byte().permute(1, 2, 0).numpy())
            drawn = get_task(name).example_picture(pixels, target, metas[name])
            height = round(drawn.shape[0] * width / drawn.shape[1])
            drawn = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
            left, top = GAP + place * (width + GAP), 36  # below the title
            assert (sheet[top : top + height, left : left + width] == drawn).all()
        assert sheet.shape[0] > 2 * height, "the fifth sample is missing"


def test_batches_are_lowered_as_in_a_run(recipe, tmp_path, capsys):
    write_preview(recipe, tmp_path / "p.png", task="cls", images=2, world=4)
    assert recipe.tasks.cls.batch == 1 and "note: cls: 7 training images are fewer" in capsys.readouterr().err


def test_boxes_lie_where_the_target_has_them():
    image = np.zeros((384, 512, 3), np.uint8)
    meta = type("Meta", (), {"class_ids": [3, 8], "class_names": ["a", "b"], "num_classes": 2})
    target = {"boxes": torch.tensor([[0.5, 0.5, 0.25, 0.5]]), "class_labels": torch.tensor([1])}
    bright = get_task("det").example_picture(image, target, meta).max(2) > 100
    rows, columns = np.nonzero(bright[90:])  # below the name
    assert abs(rows.max() + 90 - 288) < 4 and abs(columns.min() - 192) < 4 and abs(columns.max() - 320) < 4


def test_the_closing_steps_are_shown_plain(recipe, tmp_path):
    recipe.train.close_augment, recipe.tasks.names = 0.2, ["cls"]
    sheets = {}
    for mixup in (0.0, 5.0):
        recipe.tasks.cls = ClsConfig(batch=3, size=(48, 48), mixup=mixup)
        for step in (8, 9):
            sheets[mixup, step] = write_preview(recipe, tmp_path / "p.png", images=3, step=step)[0].read_bytes()
    assert sheets[0.0, 9] == sheets[5.0, 9] and sheets[0.0, 8] != sheets[5.0, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"task": "det"}, "--task det: this run trains cls"), ({"step": 11}, "--step 11: the run ends with step 10"),
     ({"step": 0}, "--step 0"), ({"images": 0}, "--images 0"), ({"world": 0}, "--ranks 0"),
     ({"out": Path("p.bmp")}, r"--out p\.bmp: name a picture")],
)  # fmt: skip
def test_mistakes(recipe, tmp_path, options, message):
    recipe.tasks.names = ["cls"]
    with pytest.raises(UserError, match=message):
        write_preview(recipe, **{"out": tmp_path / "p.jpg", **options})
    assert not list(tmp_path.iterdir())


def test_the_command_needs_no_deepspeed(shards, tmp_path):
    argv = ["launch/preview.py", "--data.shards", shards, "--tasks.seg.crop", "[32, 48]", "--task", "seg",
            "--images", "2", "--out", tmp_path / "p.jpg"]  # fmt: skip
    script = """
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    sys.exit(end.code or ("deepspeed was imported" if "deepspeed" in sys.modules else 0))
"""
    code = f"import runpy, sys\nsys.argv = {[str(word) for word in argv]!r}\n{script}"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"{tmp_path / 'p.jpg'}\n" and cv2.imread(str(tmp_path / "p.jpg")) is not None
