"""What goes wrong in long runs, done for real: losses that are not finite, full disks, shards that change."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from warm_python import warm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from resume import RECIPE, read_log  # noqa: E402

WORKER = Path(__file__).with_name("fault_worker.py")
pytestmark = [pytest.mark.multiprocess, pytest.mark.timeout(1500)]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    train = {**RECIPE["train"], "precision": "fp32", "eval_every": 0, "steps": 9, "max_skipped": 3}
    path.write_text(yaml.safe_dump({**RECIPE, "train": train}))
    return path


def errors(text):
    return [line for line in text.splitlines() if "error" in line.lower()]


def command(recipe, shards, run, *more):
    """One rank, by hand."""
    where = ["--config", recipe, "--data.shards", shards, "--run", run, "--train.threads", 1]
    return [str(word) for word in (sys.executable, "launch/train.py", *where, *more)]


def wait_for(condition, process, seconds=480):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_task_that_is_not_finite_is_left_out_and_too_often_ends_the_run(start_ranks, recipe, toy, tmp_path):
    """On one rank of two: both leave it out, count it and name it. Twice is borne, the third time in a row is not."""
    run = [recipe, toy / "shards", tmp_path / "run"]
    results = start_ranks(WORKER, 2, *run, "det", "2,4,5,7-", "--data.workers", 1)
    assert [status for status, _, _ in results] == [2, 2], results
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert [row["step"] for row in log] == list(range(1, 10))
    assert [row["step"] for row in log if row["surgery"].get("skipped") == ["det"]] == [2, 4, 5, 7, 8, 9]
    assert log[1]["loss"]["det"] is None and log[1]["surgery"]["grad_norm"]["det"] is None
    assert log[1]["loss"]["cls"] > 0 and log[1]["grad_norm"] > 0 and log[2]["loss"]["det"] > 0
    assert results[0][1].count("warning: step") == 6 and "the step was taken without det (6 so far)" in results[0][1]
    line = errors(results[0][2])[-1]
    assert line.startswith("error: step 9: the det loss or gradient was not finite in 3 steps in a row")
    named = json.loads((tmp_path / "run" / "skipped_samples.json").read_text())
    assert named["task"] == "det" and list(named["steps"]) == ["7", "8", "9"]
    last = named["steps"]["9"]
    assert len(last["rank 0"]) == len(last["rank 1"]) == RECIPE["tasks"]["det"]["batch"]
    assert all(name in line for name in [*last["rank 0"], *last["rank 1"]])


def test_a_run_that_diverges_ends_in_one_line(recipe, toy, tmp_path):
    words = command(recipe, toy / "shards", tmp_path / "run", "--optimizer.lr", 1e30, "--optimizer.warmup_steps", 0)
    output, error = warm.start(words).communicate(timeout=480)
    assert "not finite in 3 steps in a row" in errors(error)[-1] and "Traceback" not in output + error


FULL = """
mount -t tmpfs -o size={size} none {disk} || exit 77
{train} & process=$!
until test -d {disk}/run/checkpoints/step-00000003; do kill -0 $process || exit 78; sleep 0.01; done
dd if=/dev/zero of={disk}/filler bs=64k 2>/dev/null
wait $process; status=$?
ls {disk}/run/checkpoints > {out}/left
rm {disk}/filler
{train} --resume || exit 79
cp {disk}/run/log.jsonl {out}/
exit $status
"""


def test_a_disk_that_fills_up_costs_no_checkpoint(recipe, toy, tmp_path):
    """A disk of its own, in a name space of its own. With room again, the run goes on as an undisturbed one."""
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    disk.mkdir()
    assert warm.start(command(recipe, toy / "shards", whole, "--data.workers", 0)).wait(480) == 0
    used = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    train = " ".join(command(recipe, toy / "shards", disk / "run", "--data.workers", 0))
    script = FULL.format(size=3 * used, disk=disk, train=train, out=tmp_path)
    done = subprocess.run(["unshare", "-rm", "bash", "-c", script], cwd=ROOT, capture_output=True, text=True,
                          timeout=900, check=False)  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody mount a disk of their own")
    assert done.returncode == 2, done.stdout + done.stderr
    lines = errors(done.stderr)
    assert len(lines) == 1 and "cannot be written" in lines[0] and "make room" in lines[0], lines
    assert "Traceback" not in done.stderr
    assert "step-00000003" in (tmp_path / "left").read_text()
    assert read_log(tmp_path / "log.jsonl") == read_log(whole / "log.jsonl")


def test_a_shard_that_is_truncated_under_the_run_is_named(recipe, toy, tmp_path):
    """Other changes of shards: tests/data/test_stream.py."""
    shards = tmp_path / "shards"
    shutil.copytree(toy / "shards", shards)
    process = warm.start(command(recipe, shards, tmp_path / "run", "--data.workers", 1, "--train.steps", 2000))
    log = tmp_path / "run" / "log.jsonl"
    wait_for(lambda: log.exists() and log.stat().st_size, process)
    shard = shards / "det" / "train-000000.tar"
    os.truncate(shard, shard.stat().st_size // 2)
    output, error = process.communicate(timeout=480)
    assert process.returncode == 2 and "Traceback" not in error + output, error
    assert len(errors(error)) == 1 and str(shard) in errors(error)[0], error
    assert "run shards/build.py again" in error
