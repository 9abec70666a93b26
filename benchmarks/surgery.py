"""What gradient surgery costs: `python benchmarks/surgery.py` makes every figure of docs/benchmarks.md, Surgery.

Steps are interleaved in one process (or one start of several ranks); the ratio of a step to its neighbour is taken, and
the median of those. Peaks of memory come from a fresh process each. `--part` runs some of it, `--quick` a smaller trunk
with fewer repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from allocations import allocated
from ranks import start
from tables import header, line

PARTS = ("steps", "engines", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--quick", action="store_true", help="a tiny trunk, 3 repeats: does it run?")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the raw figures here too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(json.loads(arguments.worker))
        return
    found = {}
    for part in arguments.part or PARTS:
        found[part] = globals()[part](arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


# ---- the parts ----


def steps(arguments: argparse.Namespace) -> list[dict]:
    """Step with surgery / step with the plain sum, on one ZeRO-2 engine."""
    cuda = _has_cuda()
    trunks = ["vit_tiny_patch16_224"] if arguments.quick else ["vit_small_patch16_224", "vit_base_patch16_224"]
    if cuda and not arguments.quick:
        trunks = ["vit_large_patch16_224"]
    header("trunk", "ranks", "checkpointing", "batch a task", "plain step", "surgery step", "ratio (quartiles)",
           "combination", "of it Gram")  # fmt: skip
    rows = []
    for trunk in trunks:
        for world in (1,) if cuda else (1, 2):
            for checkpointing in (False, True):
                task = {
                    "kind": "step", "trunk": trunk, "checkpointing": checkpointing, "tasks": 3,
                    "batch": 2 if arguments.quick else 64 if cuda else 8,
                    "repeats": 3 if arguments.quick else arguments.repeats,
                    "precision": "bf16" if cuda else "fp32",
                }  # fmt: skip
                row = {**task, "world": world, **start(__file__, task, world)}
                rows.append(row)
                line(
                    trunk, world, "yes" if checkpointing else "no", row["batch"], f"{row['plain']:.3f} s",
                    f"{row['surgery']:.3f} s", f"{row['ratio']:.3f} ({row['low']:.3f}-{row['high']:.3f})",
                    f"{1e3 * row['combine']:.0f} ms", f"{1e3 * row['gram']:.0f} ms",
                )  # fmt: skip
                if cuda:
                    print(f"images/s {row['images_per_s']:.0f}, MFU {row['mfu']:.2f}, peak {row['peak_mib']:.0f} MiB")
    return rows


def engines(arguments: argparse.Namespace) -> list[dict]:
    """Other ways to the same combination, in one process: time side by side, memory in a process each."""
    rows = []
    trunk = "vit_tiny_patch16_224" if arguments.quick else "vit_small_patch16_224"
    for tasks in (3, 8):
        task = {"kind": "engines", "trunk": trunk, "checkpointing": False, "tasks": tasks, "batch": 4,
                "repeats": 3 if arguments.quick else arguments.repeats}  # fmt: skip
        times = start(__file__, task, 1)["seconds"]
        names = list(times)
        peaks = {name: start(__file__, {**task, "kind": "peak", "engine": name}, 1)["mib"] for name in names}
        header(f"T = {tasks}, {trunk}, batch {task['batch']} a task", "step", "ratio", "memory growth", "ratio")
        for name in names:
            rows.append({"tasks": tasks, "engine": name, "seconds": times[name], "peak_mib": peaks[name]})
            base = "plain sum on ZeRO-2" if "ZeRO" in name else names[0]
            line(
                name, f"{times[name]:.3f} s", f"{times[name] / times[base]:.2f}", f"{peaks[name]:.0f} MiB",
                f"{peaks[name] / peaks[base]:.2f}",
            )  # fmt: skip
    return rows


def memory(arguments: argparse.Namespace) -> list[dict]:
    """Peak of a surgery step against one of three plain backwards, resident and by count of allocations."""
    rows = []
    header("trunk", "ranks", "plain growth", "surgery growth", "ratio", "more, by count",
           "(T - 2) x partition x 4 bytes")  # fmt: skip
    for trunk in ["vit_tiny_patch16_224"] if arguments.quick else ["vit_small_patch16_224", "vit_base_patch16_224"]:
        for world in (1, 2):
            task = {"kind": "peak", "trunk": trunk, "checkpointing": False, "tasks": 3, "batch": 8, "repeats": 1}
            plain = start(__file__, {**task, "engine": "plain sum on ZeRO-2"}, world)
            surgery = start(__file__, {**task, "engine": "ours on ZeRO-2"}, world)
            row = {
                "trunk": trunk, "world": world, "plain_mib": plain["mib"], "surgery_mib": surgery["mib"],
                "more_mib": (surgery["counted"] - plain["counted"]) / 2**20,
                "allowed_mib": plain["partition"] * 4 / 2**20,
            }  # fmt: skip
            rows.append(row)
            line(
                trunk, world, f"{row['plain_mib']:.0f} MiB", f"{row['surgery_mib']:.0f} MiB",
                f"{row['surgery_mib'] / row['plain_mib']:.3f}", f"{row['more_mib']:.1f} MiB",
                f"{row['allowed_mib']:.1f} MiB",
            )  # fmt: skip
    return rows


# ---- in a rank ----


def work(task: dict) -> None:
    """Measure what `task["kind"]` says and print it."""
    import torch

    from ufo_ds.distributed import find_device, find_ranks, limit_threads, stop

    ranks = find_ranks()
    limit_threads(ranks, None)
    device = find_device(ranks)
    if "step" in task["kind"] or "ZeRO" in task.get("engine", "") or task["kind"] == "engines":
        import deepspeed

        deepspeed.utils.logger.setLevel("WARNING")
        deepspeed.init_distributed(dist_backend="nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(0)
    result = {"step": work_step, "engines": work_engines, "peak": work_peak}[task["kind"]](task, ranks, device)
    if ranks.first:
        print("RESULT " + json.dumps(result), flush=True)
    if torch.distributed.is_initialized():
        stop()


def _setting(task: dict, rank: int, device):
    from surgery_engines import Model, make_batches

    model = Model(task["trunk"], task["tasks"], task["checkpointing"]).to(device)
    return model, make_batches(task["tasks"], task["batch"], rank, str(device))


def work_step(task: dict, ranks, device) -> dict:
    """Plain and surgery steps in turn on one engine."""
    import torch
    from surgery_engines import Zero, matrix_rate, model_flops, stopwatch

    from ufo_ds.surgery import task_gradients

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    engine = Zero(*_setting(task, ranks.rank, device), precision=task["precision"])
    for action in (engine.plain, engine.step):
        action()
    seconds: dict[str, list[float]] = {"plain": [], "step": []}
    combine: list[float] = []
    gram: list[float] = []
    for repeat in range(task["repeats"]):
        for name in ("plain", "step") if repeat % 2 else ("step", "plain"):
            wait()
            began = time.perf_counter()
            getattr(engine, name)()
            wait()
            seconds[name].append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0
    for _ in range(3):
        with stopwatch(engine.gradients, "combine", combine, wait):
            with stopwatch(task_gradients, "gram_matrices", gram, wait):
                engine.step()
    pairs = sorted(step / plain for step, plain in zip(seconds["step"], seconds["plain"], strict=True))
    middle = statistics.median(seconds["step"])
    images = task["tasks"] * task["batch"] * ranks.world
    rate = model_flops(task["trunk"]) * images / ranks.world / middle
    return {
        "plain": statistics.median(seconds["plain"]), "surgery": middle,
        "ratio": statistics.median(pairs),
        "low": pairs[len(pairs) // 4], "high": pairs[-1 - len(pairs) // 4],
        "combine": statistics.median(combine), "gram": statistics.median(gram),
        "images_per_s": images / middle, "peak_mib": peak,
        "mfu": rate / matrix_rate(device, task["precision"]),
    }  # fmt: skip


def work_engines(task: dict, ranks, device) -> dict:
    """Median step of every engine, in turn, in one process."""
    from surgery_engines import ENGINES

    made = {name: kind(*_setting(task, 0, device)) for name, kind in ENGINES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for repeat in range(task["repeats"] + 1):
        for name, engine in made.items():
            began = time.perf_counter()
            engine.step()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return {"seconds": {name: statistics.median(values) for name, values in seconds.items()}}


def work_peak(task: dict, ranks, device) -> dict:
    """Growth of resident memory over two steps, and the peak of what two steps allocate, by count."""
    from surgery_engines import ENGINES

    engine = ENGINES[task["engine"]](*_setting(task, ranks.rank, device))

    def two_steps() -> None:
        engine.step()
        engine.step()

    before = _resident()
    two_steps()
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    zero = "ZeRO" in task["engine"]
    # The profiler misses a deallocation now and then, which only ever adds.
    counted = min(allocated(two_steps) for _ in range(3)) if zero else 0
    partition = sum(p.numel() for p in engine.engine.module.parameters()) // ranks.world if zero else 0
    return {"mib": growth, "counted": counted, "partition": partition}


def _resident() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu"


if __name__ == "__main__":
    main()
