"""Every command line on bad input: status 2, one line on the terminal, no traceback, nothing written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import listing, nested

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["launch/train.py", "--config", "recipe.yaml", "--run", "run"]
CASES = {
    "train: value": ([*TRAIN, "--train.steps", "0"], "key 'train.steps' is 0: must be at least 1"),
    "train: key": ([*TRAIN, "--train.stebs", "5"], "unknown key 'train.stebs'; did you mean 'train.steps'?"),
    "train: no recipe": (["launch/train.py", "--config", "absent.yaml", "--run", "run"], "absent.yaml: cannot read"),
    "finetune: weights": (["launch/finetune.py", "--weights", "broken", "--run", "run"], "broken/config.json: "),
    "predict: weights": (["launch/predict.py", "--run", "broken", "--shards", "shards"], "broken/config.json: "),
    "predict: tasks": (["launch/predict.py", "--run", "broken", "--shards", "x", "--tasks", "dec"], "--tasks dec"),
    "evaluate": (["launch/evaluate.py", "deep.json", "--cls-gt", "list.txt"], "deep.json: nested far too deeply"),
    "evaluate: truth": (["launch/evaluate.py", "sound.json", "--cls-gt", "deep.json"], "deep.json: line 1: "),
    "export": (["launch/export.py", "--run", "broken", "--out", "out"], "broken/config.json: "),
    "export: opset": (["launch/export.py", "--run", "broken", "--out", "out", "--opset", "20"], "only with --onnx"),
    "export: size": (["launch/export.py", "--run", "broken", "--out", "out", "--mlp", "0"], "--mlp 0.0: must be in (0"),
    "plan": (["launch/plan.py", "--config", "recipe.yaml", "--gpus", "0"], "--gpus 0: must be at least 1"),
    "plan: shards": (
        ["launch/plan.py", "--config", "recipe.yaml", "--data.shards", "broken_shards"],
        "broken_shards/cls/meta.json: cannot be read (",
    ),
    "preview": (
        ["launch/preview.py", "--config", "recipe.yaml", "--out", "sheet.jpg"],
        "key 'data.shards' is not set",
    ),
    "report": (["launch/report.py", "--run", "absent"], "absent: no such run directory"),
    "report: scores": (["launch/report.py", "--run", "run0", "--scores", "deep.json"], "deep.json: cannot be read ("),
    "build": (["shards/build.py", "--raw", "absent", "--out", "out"], "absent: no such folder; it must hold"),
    "toy": (["shards/toy.py", "--out", "recipe.yaml"], "recipe.yaml: not a folder; choose another"),
    "show": (["shards/show.py", "."], "no meta.json in cls/, det/, seg/"),
    "show: meta": (["shards/show.py", "broken_shards"], "broken_shards/cls/meta.json: cannot be read ("),
    "show: verify": (["shards/show.py", "broken_shards", "--verify"], "broken_shards: 1 problem, listed above"),
    "index": (["shards/index.py", "deep.json"], "deep.json: is not a tar"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the commands are given; none of them may change it."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "recipe.yaml").write_text("train: {steps: 5}\n")
    (folder / "deep.json").write_text(nested(100_000))
    (folder / "sound.json").write_text(json.dumps({"cls": {"a.jpg": 1}}))
    (folder / "list.txt").write_text("a.jpg 1\n")
    for name in ("broken", "run0", "broken_shards/cls"):
        (folder / name).mkdir(parents=True)
    (folder / "broken/model.safetensors").write_bytes(b"x")
    (folder / "broken/config.json").write_text("{")
    (folder / "broken_shards/cls/meta.json").write_text(nested(100_000))
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_ends_in_one_line(folder, name):
    (program, *arguments), fragment = CASES[name]
    before = listing(folder)
    environment = {key: value for key, value in os.environ.items() if key != "RANK"}
    ended = subprocess.run([sys.executable, ROOT / program, *arguments], cwd=folder, env=environment,
                           capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert fragment in ended.stderr
    assert "Traceback" not in ended.stdout and listing(folder) == before


def test_every_program_is_tried():
    programs = {path.parent.name + "/" + path.name for folder in ("launch", "shards") for path in
                (ROOT / folder).glob("*.py") if "run_command(main)" in path.read_text()}  # fmt: skip
    without_input = {"launch/dashboard.py"}
    assert programs - without_input == {arguments[0] for arguments, _ in CASES.values()}


@pytest.mark.parametrize("language", ["C", "C.UTF-8"])
def test_folders_whose_names_are_no_text(built, tmp_path, language):
    """On a terminal that can show next to nothing."""
    out = os.fsencode(tmp_path) + b"/\xff\xe4\x1b[2J \xf0\x9f\x9a\x97"
    environment = {**os.environ, "LC_ALL": language, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for program, *arguments in (["build.py", "--raw", built.raw, "--out", out, "--workers", "1"], ["show.py", out],
                                ["index.py", out + b"/cls"], ["show.py", out, "--verify"]):  # fmt: skip
        ended = subprocess.run([sys.executable, ROOT / "shards" / program, *arguments], env=environment,
                               capture_output=True, timeout=60, check=False)  # fmt: skip
        assert ended.returncode == 0, ended.stderr
    ended = subprocess.run([sys.executable, ROOT / "shards/show.py", out + b"/none"], env=environment,
                           capture_output=True, timeout=60, check=False)  # fmt: skip
    assert ended.returncode == 2 and ended.stderr.count(b"\n") == 1 and b"\x1b" not in ended.stderr


def test_a_reader_that_hangs_up_is_no_mistake(built):
    """`show.py SHARDS | head -1`."""
    show = subprocess.Popen([sys.executable, ROOT / "shards/show.py", built.out], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip
    show.stdout.close()
    assert show.stderr.read() == "" and show.wait() == 141
