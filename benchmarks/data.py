"""What the data path costs: `python benchmarks/data.py` makes every figure of docs/benchmarks.md, Data.

All of it on bytes and pictures that it draws itself, from a seed, with the page cache warm. What is compared takes
turns; ratios are of neighbours, the median with quartiles in brackets. `--part` runs some of it, `--quick` a little.
The other libraries come with `pip install -e '.[benchmarks]'`; what is absent is skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a process, as the readers have

from tables import header, line, ratios, spread

PARTS = ("read", "pipeline", "reduced", "resume", "build")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--quick", action="store_true", help="a few samples, 2 repeats: does it run?")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--samples", type=int, default=3000, help="of the undecoded reads (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to write, some 2 GB, removed in the end (default: TMPDIR)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the raw figures here too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats, arguments.samples = 2, 60
    found = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        bench = Bench(arguments, Path(folder))
        for part in arguments.part or PARTS:
            found[part] = getattr(bench, part)()
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


class Bench:
    """The parts; what two of them need is made once."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.quick, self.repeats, self.samples = arguments.quick, arguments.repeats, arguments.samples
        self.seed, self.folder = arguments.seed, folder

    @cached_property
    def raw(self) -> Path:
        """A small Track 1 download."""
        from data_pictures import write_download

        counts = (12, 4, 4) if self.quick else (800, 120, 160)
        return write_download(self.folder / "raw", *counts, self.seed)

    @cached_property
    def shards(self) -> Path:
        """The same, built."""
        from data_build import build

        build(self.raw, self.folder / "shards", workers=2)
        return self.folder / "shards"

    def read(self) -> list[dict]:
        """Undecoded samples a second, in order and at random."""
        from data_pictures import drawn_pictures, random_payloads
        from data_stores import digest, installed_stores

        kinds = installed_stores()
        rows = []
        for what, make in (("random bytes", random_payloads), ("drawn JPEGs", drawn_pictures)):
            samples = list(make(self.samples, self.seed))
            stores = [kind(self.folder / what / kind.__name__, samples) for kind in kinds]
            order = _permutation(len(samples), self.seed)
            for store in stores:  # now the page cache is warm
                if {digest(store.in_order()), digest(store.at_random(order))} != {digest(iter(samples))}:
                    raise SystemExit(f"{store.name} does not give back what was stored")
            size = sum(len(data) for sample in samples for data in sample.values()) / len(samples)
            title = f"{len(samples)} samples of {what}, {size / 1e3:.0f} kB each"
            in_order = {store.name: lambda store=store: _drain(store.in_order()) for store in stores}
            at_random = {store.name: lambda store=store, o=order: _drain(store.at_random(o)) for store in stores}
            for way, actions in ((f"{title}, in order", in_order), (f"{title}, at random", at_random)):
                rows += _read_table(way, interleaved(actions, self.repeats), len(samples))
        return rows

    def pipeline(self) -> list[dict]:
        """One reader's batches against the same decoding and transforms in a plain loop."""
        from data_pipeline import pipelines

        return pipelines(self.shards, self.repeats, self.quick)

    def reduced(self) -> list[dict]:
        """Decoding at the size that is needed against decoding whole."""
        from data_pipeline import reductions

        return reductions(self.seed, self.repeats, self.quick)

    def resume(self) -> list[dict]:
        """A stream that begins late against one that begins at 0."""
        from data_resume import first_batches, starts

        return first_batches(self.shards, self.repeats, self.quick) + starts(self.shards, self.quick)

    def build(self) -> list[dict]:
        """`shards/build.py` against `tar`."""
        from data_build import builds

        return builds(self.raw, self.folder, 1 if self.quick else min(self.repeats, 5))


Times = dict[str, tuple[list[float], list[float]]]


def interleaved(actions: dict[str, Callable[[], object]], repeats: int) -> Times:
    """Run them all, again and again, each round beginning with another; (wall, CPU) seconds of each."""
    times: Times = {name: ([], []) for name in actions}
    names = list(actions)
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            actions[name]()
            times[name][0].append(time.perf_counter() - wall)
            times[name][1].append(time.process_time() - cpu)
    return times


def _read_table(title: str, times: Times, count: int) -> list[dict]:
    """Samples a second of each store, and how ours, which comes first, compares."""
    header(title, "samples/s", "CPU a sample", "ours / it, samples/s", "its CPU / ours")
    ours = next(iter(times.values()))
    for name, (wall, cpu) in times.items():
        line(name, f"{count / statistics.median(wall):,.0f}", f"{1e6 * statistics.median(cpu) / count:.1f} us",
             spread(ratios(wall, ours[0])), spread(ratios(cpu, ours[1])))  # fmt: skip
    return [{"title": title, "store": name, "wall": wall, "cpu": cpu} for name, (wall, cpu) in times.items()]


def _drain(samples: Iterator) -> None:
    for _ in samples:
        pass


def _permutation(count: int, seed: int) -> list[int]:
    import numpy as np

    return np.random.default_rng(seed).permutation(count).tolist()


if __name__ == "__main__":
    main()
