"""`launch/evaluate.py` as a user meets it: figures, files, and one line for a mistake."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ufo_ds.submission import mask_to_polygons, write_submission

SCRIPT = Path(__file__).resolve().parents[2] / "launch" / "evaluate.py"
MASK = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3


@pytest.fixture
def folder(tmp_path):
    """A submission with its three ground truths."""
    write_submission(tmp_path / "s.json", {
        "cls": {"a.jpg": 1, "b.jpg": 2},
        "dec": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}],
        "seg": {"a.png": mask_to_polygons(MASK)}})
    (tmp_path / "cls.txt").write_text("a.jpg 1\nb.jpg 0\nc.jpg 0\n")
    (tmp_path / "det.json").write_text(json.dumps({
        "images": [{"id": 1}], "categories": [{"id": 3, "name": "stop"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 12}]}))
    (tmp_path / "seg").mkdir()
    Image.fromarray(MASK).save(tmp_path / "seg" / "a.png")
    return tmp_path


def evaluate(folder, *arguments, env=None):
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], cwd=folder, capture_output=True,
                          text=True, timeout=60, env={**os.environ, **(env or {})})


ALL = ("--cls-gt", "cls.txt", "--det-gt", "det.json", "--seg-gt", "seg")


def test_all_three(folder):
    result = evaluate(folder, "s.json", *ALL, "--seg-classes", "3", "--json", "out/scores.json")
    assert result.returncode == 0, result.stderr
    value = json.loads((folder / "out" / "scores.json").read_text())
    expected = {"top1": 0.5, "mAP50": 1, "mIoU": 1, "mIoU_present": 1, "average": 2.5 / 3}
    assert {key: value[key] for key in expected} == pytest.approx(expected)
    assert "0.8333  over cls, det, seg" in result.stdout
    assert result.stderr.startswith("warning: cls: 1 of 3 images are missing: left out of top1")
    assert len(result.stderr.splitlines()) == 1


def test_some_tasks_and_their_classes(folder):
    result = evaluate(folder, "s.json", "--det-gt", "det.json", "--per-class")
    assert result.returncode == 0
    assert "over det; not scored: cls, seg" in result.stdout and "stop" in result.stdout


def test_class_names_that_the_terminal_cannot_show(folder):
    value = json.loads((folder / "det.json").read_text())
    value["categories"][0]["name"] = "vor\u00e4ndring \ud800"
    (folder / "det.json").write_text(json.dumps(value))
    result = evaluate(folder, "s.json", "--det-gt", "det.json", "--per-class",
                      env={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0, result.stderr
    assert "vor\\xe4ndring \\ud800" in result.stdout


def test_only_the_first_rank_speaks(folder):
    result = evaluate(folder, "s.json", *ALL, "--local_rank=1", env={"RANK": "1"})
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_help_is_quick(folder):
    started = time.perf_counter()
    result = evaluate(folder, "--help")
    assert result.returncode == 0 and "--seg-classes" in result.stdout
    assert time.perf_counter() - started < 2


def test_scoring_needs_no_torch(folder):
    code = "import sys, ufo_ds.scoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parents[1], timeout=60).returncode == 0


@pytest.mark.parametrize(("arguments", "content", "message"), [
    (("s.json",), None, "no ground truth"),
    (("absent.json", *ALL), None, "absent.json: cannot be read"),
    (("s.json", *ALL), '{"cls": [', "s.json: not valid JSON"),
    (("s.json", *ALL), '{"cls": [{"a.jpg": "x"}]}', "section 'cls', entry 'a.jpg'"),
    (("s.json", *ALL), '{"dec": [{}]}', "section 'dec', entry 0: has no image_id"),
    (("s.json", *ALL), '{"seg": {"a.png": {"1": [[[0, null], [1, 1]]]}}}', "section 'seg', entry 'a.png'"),
    (("s.json", *ALL), '{"cls": {"z.jpg": 1}}', "none of its images (z.jpg) is in cls.txt"),
    (("s.json", *ALL, "--seg-classes", "2"), None, "a.png: class id 2"),
    (("s.json", *ALL, "--seg-classes", "0"), None, "--seg-classes 0"),
    (("s.json", "--seg-gt", "cls.txt"), None, "cls.txt: is no folder"),
    (("s.json", "--cls-gt", "seg"), None, "seg: cannot be read"),
    (("s.json", "--det-gt", "s.json"), None, "s.json: is no COCO file"),
    (("s.json", *ALL, "--json", "seg"), None, "seg: cannot be written"),
])
def test_a_mistake_is_one_line(folder, arguments, content, message):
    if content is not None:
        (folder / "s.json").write_text(content)
    result = evaluate(folder, *arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
