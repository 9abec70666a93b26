"""Interrupt a two-rank run again and again, resume it, and compare its log with an undisturbed run's, to the bit.

    python benchmarks/resume.py --shards SHARDS        # what shards/build.py wrote, e.g. of shards/toy.py --images 13

Each trial: SIGKILL of one rank, SIGKILL of everything and SIGTERM, in a drawn order, each after a drawn step; each
resume takes another number of reader processes. One row a trial; status 1 where a log differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
KINDS = ("a rank", "all", "SIGTERM")
WORKERS = (0, 1, 3)
PATIENCE = 600
RECIPE: dict[str, Any] = {
    "seed": 3,
    "model": {
        "trunk": "vit_tiny_patch16_224",
        "trunk_kwargs": {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3},
        "pretrained": False, "depths": 2, "drop_path": 0.1, "checkpointing": "torch",
    },
    "tasks": {
        "cls": {"batch": 3, "size": [48, 48]},
        "det": {"batch": 2, "size": [64, 64], "width": 32, "levels": [8, 16],
                "decoder_kwargs": {"decoder_layers": 2, "num_queries": 8, "num_denoising": 8, "encoder_ffn_dim": 32,
                                   "decoder_ffn_dim": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4}},
        "seg": {"batch": 2, "crop": [48, 64], "width": 16, "eval_size": [64, 128]},
    },
    "train": {"steps": 16, "clip": 5.0, "eval_every": 5, "eval_images": 12, "checkpoint_every": 3, "gallery": 1},
    "tracking": {"wandb": "disabled"},
    "deepspeed": "ds_configs/zero2_cpu.json",
}  # fmt: skip
"""Small, with all that has a state: drop-path, denoising noise, a class-balanced order, clipping, evaluations."""


class Run:
    """A run of `launch/train.py` on two ranks, under DeepSpeed's launcher."""

    popen = staticmethod(subprocess.Popen)

    def __init__(self, folder: Path, recipe: Path, shards: Path, options: list[str], port: int) -> None:
        self.folder, self.log = folder, folder / "log.jsonl"
        self.output = folder.with_suffix(".out")
        self.begins_at = max((int(path.name[5:]) for path in folder.glob("checkpoints/step-*[0-9]")), default=0)
        self.old_log = self.log.stat().st_ino if self.log.exists() else None
        launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", "2", "--master_port", str(port)]
        where = ["--config", str(recipe), "--data.shards", str(shards), "--run", str(folder), *options]
        with self.output.open("a") as file:
            self.process = self.popen([*launcher, "launch/train.py", *where], cwd=ROOT, stdout=file,
                                      stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip

    def wait_for_step(self, step: int) -> None:
        """Until this start of the run has logged that step, or its first one if that is later; or the run is over."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and self._logged() < max(step, self.begins_at + 1):
            assert time.monotonic() < until, self.output.read_text()[-2000:]
            time.sleep(0.01)

    def _logged(self) -> int:
        """The last step that this start has logged: it replaces the log that it finds by one without later steps."""
        if not self.log.exists() or self.log.stat().st_ino == self.old_log:
            return 0
        return last_step(self.log)

    def ranks(self) -> list[psutil.Process]:
        """The training processes, by rank."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            words = child.cmdline()
            local = [word for word in words if word.startswith("--local_rank=")]
            if local and "launch/train.py" in words:
                found[int(local[0].partition("=")[2])] = child
        return [found[rank] for rank in sorted(found)]

    def interrupt(self, kind: str, chance: random.Random) -> None:
        """As the kind says."""
        if kind == "a rank":
            os.kill(chance.choice(self.ranks()).pid, signal.SIGKILL)
        elif kind == "all":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:  # as a cluster does: every process at once
            for process in psutil.Process(self.process.pid).children(recursive=True):
                process.send_signal(signal.SIGTERM)

    def wait(self) -> float:
        """Until everything has ended; seconds."""
        began = time.monotonic()
        self.process.wait(PATIENCE)
        while any(process.info["cmdline"] and str(self.folder) in process.info["cmdline"]
                  for process in psutil.process_iter(["cmdline"])):  # fmt: skip
            assert time.monotonic() - began < PATIENCE, "ranks are left behind"
            time.sleep(0.05)
        return time.monotonic() - began


def last_step(log: Path) -> int:
    """The last whole line's step."""
    return max((row["step"] for row in read_log(log)), default=0)


def read_log(log: Path) -> list[dict[str, Any]]:
    """The log's lines but for a torn one, without what the clock says."""
    rows = []
    for line in log.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            row = json.loads(line)
            row.pop("perf")
            rows.append(row)
    return rows


def differences(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[str]:
    """Steps and keys in which two logs differ: losses, norms, cosines, weights, scores, all that there is."""
    wrong = [f"{len(found)} steps of {len(expected)}"] if len(found) != len(expected) else []
    for one, two in zip(expected, found, strict=False):
        wrong += [f"step {one['step']}: {key}" for key in one.keys() | two.keys() if one.get(key) != two.get(key)]
    return wrong


def interrupted_run(
    folder: Path, recipe: Path, shards: Path, seed: int, options: list[str], port: int
) -> dict[str, Any]:
    """One trial: a run to its end through interruptions. What was done, and seconds from each signal to the end."""
    chance = random.Random(seed)
    kinds, workers = list(KINDS), list(WORKERS)
    chance.shuffle(kinds), chance.shuffle(workers)
    steps = yaml.safe_load(recipe.read_text())["train"]["steps"]
    at = sorted(chance.sample(range(1, steps - 4), len(kinds)))
    done: list[dict[str, Any]] = []
    for number, (kind, step) in enumerate([*zip(kinds, at, strict=True), (None, steps)]):
        more = ["--data.workers", str(workers[number % len(workers)]), *(["--resume"] if number else [])]
        run = Run(folder, recipe, shards, [*options, *more], port + number)
        run.wait_for_step(step)
        if kind is None:
            run.wait()
            break
        reached = last_step(run.log) if run.log.exists() else 0
        run.interrupt(kind, chance)
        done.append({"kind": kind, "step": reached, "workers": more[1], "seconds": run.wait()})
    return {"done": done, "status": run.process.returncode, "output": run.output.read_text()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=3, help="a precision (default: 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=29700)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="resume-"))
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    print("| precision | interrupted: what, after step, workers, seconds to the end of all ranks | log |")
    print("| --- | --- | --- |")
    failed = False
    for precision in ("fp32", "bf16"):
        options = ["--train.precision", precision]
        whole = Run(folder / f"whole_{precision}", recipe, arguments.shards, options, arguments.port)
        whole.wait()
        expected = read_log(whole.log)
        for trial in range(arguments.trials):
            name = f"{precision}_{trial}"
            seed = arguments.seed + trial
            found = interrupted_run(folder / name, recipe, arguments.shards, seed, options, arguments.port)
            wrong = differences(expected, read_log(folder / name / "log.jsonl"))
            failed = failed or bool(wrong) or found["status"] != 0
            how = "; ".join(
                f"{one['kind']}, {one['step']}, {one['workers']}, {one['seconds']:.1f} s" for one in found["done"]
            )
            print(f"| {precision} | {how} | {'equal to the bit' if not wrong else ', '.join(wrong[:4])} |", flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
