"""Part of benchmarks/data.py: building shards against `tar` of the same files, and where the builder's time goes."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tables import header, line, ratios, spread

ROOT = Path(__file__).resolve().parents[1]
SHARD_MB = 32
"""A small download in shards of the default size would be a handful of jobs, and processes would idle at the end."""
UNCHECKED = """
import sys
from PIL import Image
import io
import shards.pack
shards.pack.check_image = lambda data: Image.open(io.BytesIO(data)).size
shards.pack.check_mask = lambda *_: None
from shards.build import main
main(sys.argv[1:])
"""
"""The builder without decoding: what the check of pixels costs. Patched, so in one process only."""


def build(raw: Path, out: Path, workers: int, program: tuple[str, ...] = ()) -> None:
    """`shards/build.py` in a process of its own."""
    command = [sys.executable, *(program or (str(ROOT / "shards" / "build.py"),)), "--raw", str(raw), "--out", str(out),
               "--workers", str(workers), "--shard-mb", str(SHARD_MB)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def builds(raw: Path, folder: Path, repeats: int) -> list[dict]:
    """Wall and CPU seconds of everything that ends with the same files in tars on the disk."""
    out, tar, cores = folder / "built", folder / "files.tar", len(os.sched_getaffinity(0))
    ways: dict[str, Callable[[], object]] = {
        "tar cf": lambda: _tar(raw, tar),
        "tar cf, then sync and sha256sum": lambda: _tar(raw, tar, "sync {0} && sha256sum {0}"),
        f"build.py, a worker a core ({cores})": lambda: build(raw, out, cores),
        "build.py, 1 worker": lambda: build(raw, out, 1),
        "build.py without decoding, 1 worker": lambda: build(raw, out, 1, ("-c", UNCHECKED)),
        "build.py --help": lambda: subprocess.run(
            [sys.executable, str(ROOT / "shards" / "build.py"), "--help"], check=True, capture_output=True
        ),
    }
    size = sum(path.stat().st_size for path in raw.rglob("*") if path.is_file()) / 1e6
    count = sum(path.suffix == ".jpg" for path in raw.rglob("*"))
    times: dict[str, tuple[list, list]] = {name: ([], []) for name in ways}
    for repeat in range(repeats + 1):  # the first fills the page cache
        for name, action in ways.items():
            shutil.rmtree(out, ignore_errors=True)
            tar.unlink(missing_ok=True)
            began, spent = time.perf_counter(), _children_seconds()
            action()
            if repeat:
                times[name][0].append(time.perf_counter() - began)
                times[name][1].append(_children_seconds() - spent)
    shutil.rmtree(out, ignore_errors=True)
    tar.unlink(missing_ok=True)
    header(f"{count} images, {size:.0f} MB", "wall", "MB/s", "CPU", "wall / tar cf")
    for name, (wall, cpu) in times.items():
        middle = statistics.median(wall)
        line(name, f"{middle:.2f} s", f"{size / middle:.0f}", f"{statistics.median(cpu):.2f} s",
             spread(ratios(wall, times["tar cf"][0])))  # fmt: skip
    return [{"way": name, "mb": size, "wall": wall, "cpu": cpu} for name, (wall, cpu) in times.items()]


def _tar(raw: Path, tar: Path, after: str = "") -> None:
    subprocess.run(["tar", "cf", str(tar), "-C", str(raw), "."], check=True)
    if after:
        subprocess.run(after.format(f"'{tar}'"), shell=True, check=True, stdout=subprocess.DEVNULL)


def _children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system
