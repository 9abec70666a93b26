import json
import math
import socket
import sys

import numpy as np
import pytest

from ufo_ds import terminal, tracking
from ufo_ds.environment import write_environment
from ufo_ds.tracking import Tracker, cut_log, flatten, to_json


def record(step: int, **more) -> dict:
    return {
        "step": step, "epoch": {"cls": 0.1, "det": 0.2}, "lr": 1e-4, "loss": {"cls": 1.25, "det": 18.0},
        "loss_parts": {"det": {"loss_vfl": 0.5}},
        "surgery": {"tasks": ["cls", "det"], "weights": [1.0, 2.0], "grad_norm": {"cls": 0.5, "det": 4.0},
                    "cosine": [[1.0, -0.25], [-0.25, 1.0]], "conflicts": 1.0},
        "grad_norm": 1.5, "perf": {"images_per_s": 33.0, "step_s": 0.5}, **more,
    }


def tracker(run, **options) -> Tracker:
    defaults = {"total_steps": 4, "tasks": ["cls", "det"], "config": {}, "wandb_mode": "disabled"}
    return Tracker(run, **{"enabled": True, **defaults, **options})


def read_log(run) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_one_json_line_a_step_readable_at_once(tmp_path):
    with tracker(tmp_path / "run") as log:
        log.log(record(1))
        assert read_log(tmp_path / "run") == [record(1)]
        log.log(record(2, val={"cls": {"top1": 0.5}, "average": 0.5}))
    assert [row["step"] for row in read_log(tmp_path / "run")] == [1, 2]


def test_numbers_that_are_not_finite_become_null_and_keep_their_key():
    row = to_json({"loss": {"cls": math.nan, "det": np.float32("inf")},
                   "cosine": np.eye(2), "n": np.int64(3)})
    assert row == {"loss": {"cls": None, "det": None}, "cosine": [[1, 0], [0, 1]], "n": 3}
    json.dumps(row, allow_nan=False)


def test_resume_cuts_the_log_at_the_checkpoint(tmp_path):
    with tracker(tmp_path) as log:
        for step in (1, 2, 3):
            log.log(record(step))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    with tracker(tmp_path, start_step=2) as log:
        assert [row["step"] for row in read_log(tmp_path)] == [1, 2]
        log.log(record(3, lr=0.5))
    assert [(row["step"], row["lr"]) for row in read_log(tmp_path)] == [(1, 1e-4), (2, 1e-4), (3, 0.5)]
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_fresh_start_empties_a_stale_log(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps(record(1)) + "\n")
    tracker(tmp_path).close()
    assert read_log(tmp_path) == []


def test_cut_log_drops_a_torn_line_even_at_its_step(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    cut_log(path, 2)
    assert path.read_text() == '{"step": 1}\n'


def test_other_ranks_write_nothing(tmp_path):
    with tracker(tmp_path / "run", enabled=False, wandb_mode="offline") as log:
        log.log(record(1))
        log.images(1, {"cls": []})
        log.note("unheard")
    assert not (tmp_path / "run").exists()


def test_flatten_names():
    flat = flatten(record(7, val={"det": {"mAP50": 0.2}, "average": None}))
    assert flat["train/loss/det"] == 18.0
    assert flat["train/det/loss_vfl"] == 0.5
    assert flat["train/lr"] == 1e-4
    assert flat["train/grad_norm"] == 1.5
    assert flat["val/det/mAP50"] == 0.2
    assert math.isnan(flat["val/average"])
    assert flat["perf/images_per_s"] == 33.0
    assert flat["surgery/weight/det"] == 2.0
    assert flat["surgery/grad_norm/det"] == 4.0
    assert flat["surgery/cosine/cls-det"] == -0.25
    assert flat["surgery/conflicts"] == 1.0


def test_flatten_takes_a_record_without_surgery():
    assert flatten({"step": 1, "loss": {"cls": 1}, "surgery": None}) == {"train/loss/cls": 1}


def test_flatten_the_trunks_blocks():
    row = record(1)
    row["surgery"] |= {"norm_ratio": None, "solver_failed": True, "blocks": {
        "names": ["stem", "block 0"], "pairs": ["cls-det"], "cosine": [[0.5], [None]], "conflicts": [0, 1.0],
        "grad_norm": {"cls": [1, 2], "det": [3, 4]}}}
    flat = flatten(row)
    assert math.isnan(flat["surgery/norm_ratio"]) and flat["surgery/solver_failed"] == 1.0
    assert flat["surgery/blocks/stem/conflicts"] == 0 and flat["surgery/blocks/block_0/conflicts"] == 1
    assert flat["surgery/blocks/stem/cosine/cls-det"] == 0.5
    assert math.isnan(flat["surgery/blocks/block_0/cosine/cls-det"])
    assert "surgery/solver_failed" not in flatten(record(1))


def test_flatten_takes_a_step_without_a_gram_matrix():
    flat = flatten({"step": 1, "surgery": {"tasks": ["cls", "det"], "weights": [1.0, 2.0]}})
    assert flat == {"surgery/weight/cls": 1.0, "surgery/weight/det": 2.0}


# ---- terminal ----


def test_plain_lines_are_rare(tmp_path, capsys):
    with tracker(tmp_path, total_steps=100) as log:
        for step in range(1, 101):
            log.log(record(step))
        log.note("a note")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/100", "step 100/100", "a note"]
    assert "cls 1.25  det 18  33.0 images/s" in lines[0]


def test_a_bar_on_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with tracker(tmp_path) as log:
        log.log(record(1, loss={"cls": math.nan}))
        log.note("above the bar")
    captured = capsys.readouterr()
    assert "1/4" in captured.err and "cls nan" in captured.err
    assert captured.out == "above the bar\n"


def test_remaining_time_starts_at_the_first_step(monkeypatch):
    clock = iter([1000.0, 1010.0, 1015.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    shown = terminal.Terminal(total_steps=8, start_step=2, tasks=[])
    assert [shown._remaining(step) for step in (3, 5, 6)] == ["?", "00:15", "00:10"]


# ---- wandb ----


def test_wandb_offline_for_real(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with tracker(tmp_path / "run", wandb_mode="auto", config={"seed": 0, "size": (1, 2)}) as log:
        log.log(record(1))
        log.images(1, {"cls": [np.zeros((8, 8, 3), np.uint8)]})
    (offline,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert next(offline.glob("*.wandb")).stat().st_size > 0
    assert list(offline.glob("files/media/images/pictures/*.jpg"))
    assert list(offline.glob("files/media/images/surgery/conflicts_over_time*.png"))
    assert not list(offline.glob("files/media/images/surgery/conflicts_over_depth*.png"))
    captured = capfd.readouterr()
    assert "wandb" not in captured.out + captured.err


class _BrokenWandb:
    """Stands in for the module: `init` or the run raises."""

    class Settings:
        model_fields = ()

    Image = staticmethod(lambda image, file_type: image)

    def __init__(self, init_works: bool) -> None:
        self.init_works = init_works

    def init(self, **_):
        if not self.init_works:
            raise OSError("no\nnetwork")
        return self

    def define_metric(self, *_, **__):
        pass

    def log(self, _):
        raise RuntimeError("service gone")

    finish = None


@pytest.mark.parametrize(("init_works", "reason"), [(False, "OSError: no network"), (True, "service gone")])
def test_broken_wandb_is_one_warning(tmp_path, monkeypatch, capsys, init_works, reason):
    monkeypatch.setitem(sys.modules, "wandb", _BrokenWandb(init_works))
    with tracker(tmp_path, wandb_mode="online") as log:
        for step in (1, 2, 3):
            log.log(record(step))
            log.images(step, {"cls": [np.zeros((8, 8, 3), np.uint8)]})
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(warnings) == 1 and reason in warnings[0]
    assert len(read_log(tmp_path)) == 3


def test_unreachable_wandb_is_one_warning_and_an_offline_record(tmp_path, monkeypatch, capsys):
    """wandb itself, and nobody at its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setitem(tracking._SETTINGS, "init_timeout", 2)
    with tracker(tmp_path, wandb_mode="auto") as log:
        for step in (1, 2):
            log.log(record(step))
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(warnings) == 1 and "recording offline" in warnings[0], warnings
    assert len(read_log(tmp_path)) == 2
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


def test_absent_wandb_is_one_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with tracker(tmp_path, wandb_mode="offline") as log:
        log.log(record(1))
    assert capsys.readouterr().out.count("warning: wandb:") == 1


# ---- environment ----


def test_environment(tmp_path):
    write_environment(tmp_path, ["train.py", "--run", "a b"], gpus=["H100"], world_size=2)
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["command"] == "train.py --run 'a b'"
    assert found["versions"]["torch"] and found["versions"]["python"].startswith("3.")
    assert found["gpus"] == ["H100"] and found["world_size"] == 2
    assert set(found["git"]) == {"revision", "dirty"}


def test_environment_of_a_resumed_run_keeps_the_earlier_ones(tmp_path):
    for number in (1, 2, 3):
        write_environment(tmp_path, f"start{number}", resumed=number > 1)
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["command"] == "start3"
    assert [entry["command"] for entry in found["earlier"]] == ["start1", "start2"]
    (tmp_path / "environment.json").write_text("{")
    write_environment(tmp_path, ["start4"], resumed=True)
    assert "earlier" not in json.loads((tmp_path / "environment.json").read_text())
