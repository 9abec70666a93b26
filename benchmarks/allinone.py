"""Is one joint model as good as three single ones? `benchmarks/allinone.py --shards SHARDS --results FILE.jsonl`.

Every run takes the same steps and sees the same number of images of each of its tasks, in the same order; a run on
one task is a single-task model. Scores are those of val after the last step: nothing is chosen on val but the weights
of `tuned weights`, on a seed of their own. Each run that ends adds a line to FILE.jsonl, and runs that stand there
already are not repeated, so that the command can be broken off and given again. The table comes at the end, and
`--chart` draws the chart; without `--shards` that is all.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from allinone_tables import draw_chart, print_table

SINGLE = {f"single {task}": {"tasks.names": f"[{task}]"} for task in ("cls", "det", "seg")}
OWN_FFN = {"trunk.task_blocks.ffn": "specific", "trunk.task_blocks.blocks": "last:2"}
JOINT = {
    "plain sum": {"surgery.method": "none"},
    "tuned weights": {"surgery.method": "static"},
    "PCGrad": {"surgery.method": "pcgrad"},
    "TBGC": {"surgery.method": "tbgc"},
    "UPGrad": {"surgery.method": "upgrad"},
    "IMTL-G": {"surgery.method": "imtl_g"},
}
VARIANTS = {
    **SINGLE,
    **JOINT,
    **{f"{name}, own FFN": {**JOINT[name], **OWN_FFN} for name in ("plain sum", "PCGrad", "TBGC")},
}
TUNING_SEED = 1000
CANDIDATES = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1), (2, 1, 2), (1, 2, 2)]
"""Weights of cls, det, seg that `tuned weights` is chosen from; only ratios count."""


def main() -> None:
    arguments = _arguments()
    results = Results(arguments.results)
    if arguments.shards:
        run_all(arguments, results)
    print_table(results.rows)
    if arguments.chart:
        draw_chart(results.rows, arguments.chart)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, help="of the three tasks")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, a run a line; added to")
    parser.add_argument("--config", type=Path, default=ROOT / "launch/recipes/track1_mini.yaml")
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default: 3)")
    parser.add_argument("--variant", action="append", choices=list(VARIANTS), help="default: all")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each with its share of the cores")
    parser.add_argument("--minutes", type=float, help="begin no run after so many")
    parser.add_argument("--chart", type=Path, help="write the chart here, SVG")
    return parser.parse_args()


class Results:
    """The lines of the results file; threads add to it."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def has(self, variant: str, seed: int, steps: int) -> bool:
        """Whether that run stands there."""
        return any((row["variant"], row["seed"], row["steps"]) == (variant, seed, steps) for row in self.rows)

    def add(self, row: dict) -> None:
        """Write a run down at once."""
        with self._lock:
            self.rows.append(row)
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def run_all(arguments: argparse.Namespace, results: Results) -> None:
    """All runs that are missing, seed by seed, so that what there is compares at any time."""
    wanted = arguments.variant or list(VARIANTS)
    if "tuned weights" in wanted:
        names = [_tuning(weights) for weights in CANDIDATES]
        _run(arguments, results, [(name, TUNING_SEED) for name in names])
        tuned = [row for row in results.rows if row["variant"] in names and row["steps"] == arguments.steps]
        if len(tuned) < len(CANDIDATES):
            wanted = [name for name in wanted if name != "tuned weights"]
        else:
            best = max(tuned, key=lambda row: row["scores"]["average"])
            JOINT["tuned weights"]["surgery.static_weights"] = best["variant"].removeprefix("tuning ")
            VARIANTS["tuned weights"] = JOINT["tuned weights"]
            print(f"tuned weights: {best['variant']}", file=sys.stderr)
    _run(arguments, results, list(itertools.chain.from_iterable(
        [(name, seed) for name in wanted] for seed in range(arguments.seeds)
    )))  # fmt: skip


def _tuning(weights: tuple[int, int, int]) -> str:
    return "tuning {{cls: {}, det: {}, seg: {}}}".format(*weights)


def _run(arguments: argparse.Namespace, results: Results, runs: list[tuple[str, int]]) -> None:
    missing = [(name, seed) for name, seed in runs if not results.has(name, seed, arguments.steps)]
    began, done = time.monotonic(), itertools.count(1)
    print(f"{len(runs) - len(missing)} of {len(runs)} runs are there", file=sys.stderr)

    def one(run: tuple[str, int]) -> None:
        elapsed = (time.monotonic() - START) / 60
        if arguments.minutes and elapsed > arguments.minutes:
            return
        results.add(train(arguments, *run))
        count = next(done)
        left = (time.monotonic() - began) / count * (len(missing) - count) / 60
        print(f"{count}/{len(missing)} {run[0]}, seed {run[1]}; about {left:.0f} min left", file=sys.stderr, flush=True)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(one, missing))


def train(arguments: argparse.Namespace, variant: str, seed: int) -> dict:
    """One run in a process of its own. Returns its line of the results."""
    if variant.startswith("tuning "):
        options = {"surgery.method": "static", "surgery.static_weights": variant.removeprefix("tuning ")}
    else:
        options = VARIANTS[variant]
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    values = {
        **options, "seed": seed, "train.steps": arguments.steps, "train.eval_every": 0, "train.checkpoint_every": 0,
        "train.threads": threads, "data.shards": arguments.shards, "data.workers": 0, "tracking.wandb": "disabled",
        "train.gallery": 0, "surgery.self_test": "false",
    }  # fmt: skip
    if variant in SINGLE:
        values["surgery.method"] = "none"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "launch/train.py"), "--config", str(arguments.config), "--run", folder]
        for key, value in values.items():
            command += [f"--{key}", str(value)]
        began = time.monotonic()
        here = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=here, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{variant}, seed {seed}: {done.stderr[-2000:]}")
        scores = json.loads((Path(folder) / "scores.json").read_text())
        log = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    return {
        "variant": variant, "seed": seed, "steps": arguments.steps, "scores": scores["val"],
        "loss": log[-1]["loss"], "minutes": round((time.monotonic() - began) / 60, 2),
    }  # fmt: skip


START = time.monotonic()

if __name__ == "__main__":
    main()
