"""Runs on remote shards are runs on local ones, to the bit, by the command lines a user types."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from entry_points import run
from test_end_to_end import TINY, read_log

sys.path.append(str(Path(__file__).resolve().parent / "data" / "remote"))
from shard_server import ShardServer

pytestmark = pytest.mark.multiprocess
SHORT = ["--train.eval_images", 4, "--data.window", 2, "--train.gallery", 1]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Shards of a few pictures each, and a run on them where they lie."""
    folder = tmp_path_factory.mktemp("remote")
    run("shards/toy.py", "--out", folder / "raw", "--images", 13, "--seed", 5)
    run("shards/build.py", "--layout", "track1", "--raw", folder / "raw", "--out", folder / "shards",
        "--samples-per-shard", 4)  # fmt: skip
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    train(folder, folder / "shards", "local", "--data.cache", folder / "unused")
    assert not (folder / "unused").exists()
    return folder


@pytest.fixture
def server(work):
    server = ShardServer(work / "shards", "/some/shards")
    yield server
    server.close()


def train(folder, shards, name, *more, ranks=2):
    where = ["--config", folder / "tiny.yaml", "--data.shards", shards, "--run", folder / name]
    return run("deepspeed", ranks, "launch/train.py", *where, *SHORT, *more)


def figures(run_dir):
    return [{key: value for key, value in row.items() if key != "perf"} for row in read_log(run_dir)]


def test_a_run_over_http_resumed_from_a_command_repeats_the_local_one(work, server):
    # In a file, because DeepSpeed's launcher prints the command line.
    url = f"http://me:pa55word@{server.host}/some/shards/?x=pa55word"
    (work / "where.yaml").write_text(yaml.safe_dump({"data": {"shards": url}}))
    where = ["--config", work / "tiny.yaml", "--config", work / "where.yaml"]
    done = run("deepspeed", 2, "launch/train.py", *where, *SHORT,
               "--run", work / "http", "--data.cache", work / "cache", "--tracking.wandb", "offline")  # fmt: skip
    assert "fetching cls train, all shards" in done.stderr + done.stdout
    assert figures(work / "http") == figures(work / "local")
    assert max(server.count().values()) <= 3, "a shard of each task once, for both ranks and all readers"
    written = [path for path in (work / "http").rglob("*") if path.is_file()]
    assert not [path for path in written if b"pa55word" in path.read_bytes()]
    assert "pa55word" not in done.stdout + done.stderr

    shutil.rmtree(work / "http/checkpoints/step-00000004")
    command = f"pipe:cat {shlex.quote(str(work / 'shards'))}/{{}}"
    train(work, command, "http", "--resume", "--data.cache", work / "cache2", "--data.workers", 0)
    assert figures(work / "http") == figures(work / "local")


def test_predictions_of_remote_shards_are_those_of_local_ones(work, server):
    for name, shards, more in (
        ("a.json", work / "shards", []),
        ("b.json", server.url, ["--cache", work / "cache3", "--cache-gib", "0.01"]),
    ):
        run("launch/predict.py", "--run", work / "local", "--shards", shards, "--out", work / name, "--threads", 1,
            *more)  # fmt: skip
    assert json.loads((work / "a.json").read_text()) == json.loads((work / "b.json").read_text())


def test_finetuning_and_training_on_a_stream_find_the_tasks_that_there_are(work, server):
    server.faults["det/meta.json"] = [404] * 100
    run("launch/finetune.py", "--config", "launch/recipes/finetune.yaml", "--weights", work / "local",
        "--data.shards", server.url, "--data.remote", "stream", "--tasks.cls.balanced", "false",
        "--run", work / "tuned", "--train.epochs", 0.5, "--train.precision", "fp32",
        "--deepspeed", "ds_configs/zero2_cpu.json", "--tracking.wandb", "disabled", "--train.threads", 1,
        *SHORT)  # fmt: skip
    assert set(read_log(work / "tuned")[-1]["loss"]) == {"cls", "seg"}


@pytest.mark.parametrize(
    ("shards", "fragment"),
    [
        (["{url}/nowhere"], "no shards here"),
        (["{url}", "--data.remote", "stream"], "key 'tasks.cls.balanced'"),
        (["{url}", "--data.cache_gib", "0.00001"], "key 'data.cache_gib' is 1e-05"),
        (["pipe:false {{}}", "--data.remote", "stream"], "ends with status 1 (6 attempts); try the command in a shell"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_starts(work, server, tmp_path, shards, fragment):
    words = [word.format(url=server.url) for word in shards]
    done = run("launch/train.py", "--config", work / "tiny.yaml", "--run", tmp_path / "run", "--data.cache",
               tmp_path / "cache", "--data.shards", *words, ok=False)  # fmt: skip
    assert fragment in done.stderr and done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "run").exists()
