"""Part of benchmarks/data.py: a stream that begins late, and the first batch of a resumed run."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_pipeline import TASKS, open_stream
from tables import header, line, spread


def first_batches(shards: Path, repeats: int, quick: bool) -> list[dict]:
    """CPU seconds to the first batch from position 0 and from position N; what each skipped sample costs."""
    batch = TASKS["cls"][2]
    header("from sample", "first batch, CPU", "more than from 0, each skipped sample")
    seconds = {step: [] for step in (0, 10**3, 10**5, 10**7)}
    for repeat in range(repeats + 1):
        for step, found in seconds.items():
            with open_stream(shards, "cls", workers=0, start_step=step) as stream:
                began = time.process_time()
                next(stream)
                if repeat:
                    found.append(time.process_time() - began)
    base = statistics.median(seconds[0])
    for step, found in seconds.items():
        more = (statistics.median(found) - base) / (step * batch) if step else 0
        figures = f"{1e3 * statistics.median(found):.1f} ms", f"{1e6 * more:.4f} us" if step else "-"
        line(f"ufo_ds, {step * batch:,}", *figures)
    rows = [{"what": "first batch", "step": step, "seconds": found} for step, found in seconds.items()]
    return rows + [_skipping(shards, decoded, 20 if quick else 400, repeats) for decoded in (False, True)]


def _skipping(shards: Path, decoded: bool, count: int, repeats: int) -> dict:
    """webdataset, which gets to a sample by making all before it."""
    import webdataset

    urls = sorted(map(str, (shards / "cls").glob("train-*.tar")))
    found = []
    for _ in range(repeats):
        stream = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).repeat()
        stream = iter(stream.decode("rgb8") if decoded else stream)
        next(stream)
        began = time.process_time()
        next(itertools.islice(stream, count, None))
        found.append((time.process_time() - began) / count)
    name = "webdataset, decoded as its pipeline does" if decoded else "webdataset, not decoded"
    line(f"{name}, {count:,}", "-", f"{1e6 * statistics.median(found):.1f} us")
    return {"what": name, "seconds_a_sample": found}


def starts(shards: Path, quick: bool) -> list[dict]:
    """First batch of a resumed run in a process of its own, and of a second stream in the same process."""
    header("readers", "first batch of a process's first stream", "of its second stream", "its imports before")
    rows = []
    for workers in (1,) if quick else (0, 1, 3):
        found = [_start(shards, workers) for _ in range(1 if quick else 3)]
        columns = list(zip(*found, strict=True))
        line(workers, *(f"{spread(column)} s" for column in columns))
        rows.append({"what": "start", "workers": workers, "seconds": found})
    return rows


def _start(shards: Path, workers: int) -> tuple[float, float, float]:
    command = [sys.executable, __file__, str(shards), str(workers)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, second, imports = json.loads(output.splitlines()[-1])
    return first, second, imports


def _main(shards: Path, workers: int) -> None:
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        with open_stream(shards, "cls", workers, start_step=12345) as stream:
            next(stream)
            seconds.append(time.perf_counter() - began)
    print(json.dumps([*seconds, IMPORTED - STARTED]))


IMPORTED = time.perf_counter()
if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
