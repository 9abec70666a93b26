"""Samples a second off remote shards, beside local ones: `python benchmarks/remote_shards.py`.

One epoch of the windowed order, undecoded, in one process; the ways alternate, and the ratio to the local neighbour is
the median over the repeats. The server is on this machine, so what counts is the work, not a network.
"""

from __future__ import annotations

import argparse
import functools
import io
import os
import statistics
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ufo_ds.data.folders import open_folder
from ufo_ds.data.order import shuffled
from ufo_ds.data.schema import ClassInfo, Member, ShardInfo, SplitMeta, TaskMeta, write_index
from ufo_ds.data.shards import ShardSet, open_shards

WINDOW = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--samples", type=int, default=400, help="in a shard")
    parser.add_argument("--kib", type=int, default=96, help="of an image")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "shards"
        infos = [write_shard(root / "cls" / f"train-{n:06d}.tar", options) for n in range(options.shards)]
        count = sum(info.samples for info in infos)
        TaskMeta("cls", "benchmark", [ClassInfo(0, "a")],
                 {"train": SplitMeta(True, count, count, infos, [], [])}).write(root)  # fmt: skip
        ways = make_ways(root, serve(root), Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.repeats):
            for name, walk in ways.items():
                began = time.perf_counter()
                assert walk() == count
                seconds[name].append(time.perf_counter() - began)
    print("| shards | samples/s | of local (median) |\n| --- | --- | --- |")
    for name, found in seconds.items():
        ratios = [local / other for local, other in zip(seconds["local"], found, strict=True)]
        print(f"| {name} | {count / statistics.median(found):.0f} | {statistics.median(ratios):.3f} |")


def write_shard(path: Path, options: argparse.Namespace) -> ShardInfo:
    """A shard of noise with its index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    index = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(options.samples):
            members = []
            for ext, data in (("jpg", os.urandom(options.kib << 10)), ("cls", b"0")):
                info = tarfile.TarInfo(f"{path.stem}_{number}.{ext}")
                info.size = len(data)
                members.append(Member(ext, tar.offset + tarfile.BLOCKSIZE, info.size, info.name))
                tar.addfile(info, io.BytesIO(data))
            index.append(members)
    write_index(path.with_suffix(".idx"), index)
    return ShardInfo(path.name, options.samples, path.stat().st_size, sha256(path.read_bytes()).hexdigest())


def serve(root: Path) -> str:
    """A plain web server of the folder; its URL."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def make_ways(root: Path, url: str, folder: Path) -> dict[str, Callable[[], int]]:
    """Name -> a walk over one epoch, which returns the number of samples."""
    import webdataset

    local, warm = ShardSet(root, "cls", "train"), open_shards(open_folder(url, cache=f"{folder}/warm"), "cls", "train")
    walk(warm)
    fresh = iter(range(1_000_000))
    command = f"pipe:cat {root}/{{}}"
    tars = [f"pipe:cat {path}" for path in sorted((root / "cls").glob("*.tar"))]
    return {
        "local": lambda: walk(local),
        "http, in the cache": lambda: walk(warm),
        "http, into an empty cache": lambda: walk(
            open_shards(open_folder(url, cache=f"{folder}/cold/{next(fresh)}"), "cls", "train")
        ),
        "stream over http": lambda: walk(open_shards(open_folder(url, stream=True), "cls", "train")),
        "stream of a command": lambda: walk(open_shards(open_folder(command, stream=True), "cls", "train")),
        "webdataset of the command, in order": lambda: sum(
            1 for _ in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)
        ),
    }


def walk(shards: ShardSet) -> int:
    """One epoch in batches of 32, as a training stream asks for them."""
    order = shuffled(shards.shard_sizes, 0, "cls", 0, WINDOW)
    batches = [order[first : first + 32].tolist() for first in range(0, len(order), 32)]

    def samples_of(number: int) -> list[int]:
        return batches[number] if number < len(batches) else []

    shards.keep(WINDOW)
    shards.begin(0, samples_of)
    count = 0
    for number, batch in enumerate(batches):
        shards.look_ahead(number, samples_of)
        count += sum(bool(shards[index].image) for index in batch)
    shards.close()
    return count


if __name__ == "__main__":
    main()
