"""Planned against measured memory: `python benchmarks/plan.py` makes the table of docs/benchmarks.md, Planning.

A small model in the shape of a recipe: its real session (ZeRO-2, surgery) takes steps on drawn data, and torch's
profiler counts the bytes. `launch/plan.py` has said before what they would be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from allocations import allocated
from ranks import start
from tables import header, line

SMALL_BUCKETS = "{zero_optimization: {stage: 2, overlap_comm: false, reduce_bucket_size: 2000000}}"
"""The usual ones would be two thirds of what such small models hold."""
CASES = {
    "toy recipe": {},
    "checkpointing off": {"model.checkpointing": "none"},
    "bf16, a wider trunk": {
        "train.precision": "bf16",
        "model.trunk_kwargs": "{img_size: 128, patch_size: 2, embed_dim: 256, depth: 8, num_heads: 8}",
    },
    "plain sum, moving average": {"surgery.method": "none", "surgery.every": 0, "train.ema": 0.99},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one case: does it run?")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(json.loads(arguments.worker))
        return
    os.environ["DS_ACCELERATOR"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        for script in (["toy.py", "--out", "raw", "--images", "48"], ["build.py", "--raw", "raw", "--out", "shards"]):
            subprocess.run([sys.executable, ROOT / "shards" / script[0], *script[1:]], cwd=folder, check=True)
        header("case", "ranks", "part", "planned", "measured", "planned / measured")
        for name, options in list(CASES.items())[: 1 if arguments.quick else None]:
            for world in (1, 2):
                compare(name, {**options, "deepspeed": SMALL_BUCKETS, "data.shards": f"{folder}/shards"}, world, folder)


def compare(name: str, options: dict, world: int, folder: str) -> None:
    """A line of the table for what is held, and one for the peak of a step."""
    words = ["--config", str(ROOT / "launch/recipes/toy.yaml")]
    for key, value in options.items():
        words += [f"--{key}", str(value)]
    out = f"{folder}/plan.json"
    command = [sys.executable, ROOT / "launch/plan.py", *words, "--gpus", str(world), "--json", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    planned = json.loads(Path(out).read_text())["bytes"]
    measured = start(__file__, {"words": words, "run": f"{folder}/{abs(hash((name, world)))}"}, world)
    held, peak = sum(planned["held"].values()), sum(planned["peak"].values())
    for part, one, other in (
        ("held between steps", held, measured["held"]),
        (f"in the {planned['moment']}", peak, measured["peak"]),
        ("in all", held + peak, measured["held"] + measured["peak"]),
    ):
        line(name, world, part, f"{one / 2**20:.1f} MiB", f"{other / 2**20:.1f} MiB", f"{one / other:.3f}")


def work(task: dict) -> None:
    """Two steps to warm up, two under the profiler; what is held is counted from the engine's own tensors."""
    from ufo_ds.command_line import parse_recipe
    from ufo_ds.training.loop import backward_all
    from ufo_ds.training.session import open_session

    words = [*task["words"], "--data.workers", "0", "--tracking.wandb", "disabled", "--surgery.self_test", "false"]
    recipe, _ = parse_recipe({}, (), words)
    session = open_session(recipe, Path(task["run"]))
    session.engine.train()

    def step(number: int) -> None:
        backward_all(session, number)
        session.gradients.combine()
        session.engine.step()

    for number in (1, 2):
        step(number)
    peak = allocated(lambda: [step(number) for number in (3, 4)])
    if session.ranks.first:
        print("RESULT " + json.dumps({"held": held(session), "peak": peak}), flush=True)
    session.close(failed=False)
    from ufo_ds.distributed import stop

    stop()


def held(session) -> int:
    """Bytes of the weights, of the optimizer's partitions and of the moving average, each storage once."""
    import torch

    zero = session.engine.optimizer
    tensors = list(session.engine.module.parameters()) + list(zero.single_partition_of_fp32_groups)
    for state in zero.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    if session.average:
        tensors += list(session.average.model.parameters())
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


if __name__ == "__main__":
    main()
