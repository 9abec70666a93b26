"""Killed, killed in part, asked to stop, with other numbers of readers each time: the log stays that of a quiet run."""

import sys
from pathlib import Path

import pytest
import yaml
from entry_points import free_port
from warm_python import warm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from resume import KINDS, RECIPE, Run, differences, interrupted_run, read_log  # noqa: E402

CASES = {
    "fp32": ["--train.precision", "fp32", "--surgery.method", "gradvac", "--surgery.every", "2", "--surgery.scope",
             "block", "--train.accumulate", "2", "--train.ema", "0.9", "--trunk.task_blocks.blocks", "last:1",
             "--trunk.task_blocks.ffn", "learned", "--trunk.task_blocks.norm", "specific",
             "--trunk.elastic.heads", "[1, 2]"],
    "bf16": ["--train.precision", "bf16", "--surgery.method", "famo", "--deepspeed", "ds_configs/zero2_offload.json",
             "--tracking.wandb", "offline"],
}  # fmt: skip
pytestmark = [pytest.mark.multiprocess, pytest.mark.timeout(1500)]


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_run_ends_as_an_undisturbed_one_to_the_bit(toy, tmp_path, monkeypatch, case):
    """Methods that remember, engines that differ. What ends a run says so in one line, and the rest ends with it."""
    recipe, options = tmp_path / "recipe.yaml", CASES[case]
    recipe.write_text(yaml.safe_dump(RECIPE))
    if case != "fp32":  # one undisturbed run starts as a user's would, with interpreters of its own
        monkeypatch.setattr(Run, "popen", warm.start)
    whole = Run(tmp_path / "whole", recipe, toy / "shards", [*options, "--data.workers", "1"], free_port())
    whole.wait()
    monkeypatch.setattr(Run, "popen", warm.start)
    trial = interrupted_run(tmp_path / "run", recipe, toy / "shards", list(CASES).index(case), options, free_port())
    assert trial["status"] == 0, trial["output"][-3000:]
    assert differences(read_log(whole.log), read_log(tmp_path / "run" / "log.jsonl")) == [], trial["done"]
    assert sorted(one["kind"] for one in trial["done"]) == sorted(KINDS)
    assert all(one["seconds"] < 60 for one in trial["done"]), "the ranks that were left hung"
    assert "Traceback" not in trial["output"], trial["output"]
    said = [line for line in trial["output"].splitlines() if line.startswith("error")]
    assert len(said) == 1 and " died in " in said[0], said
    assert trial["output"].count("stopped by SIGTERM after step") == 1
    expected, found = (folder / "weights/last/model.safetensors" for folder in (whole.folder, tmp_path / "run"))
    assert expected.read_bytes() == found.read_bytes()
