"""Shards, a server of them, and a cache for each test."""

import pytest
from remote_shards import PER_SHARD, SHARDS
from shard_server import ShardServer
from test_stream import jpeg

from ufo_ds.data import fetching
from ufo_ds.data.folders import open_folder


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Short pauses, no proxy, no cache but the test's."""
    monkeypatch.setattr(fetching, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "default"))


@pytest.fixture
def root(write_shards):
    """35 JPEGs in 7 shards to train on, 6 in 2 to evaluate."""

    def samples(first, count):
        return [
            [(f"{n:02d}.{'JPG' if n % 4 else 'jpg'}", jpeg(n)), (f"{n:02d}.cls", str(n % 3).encode())]
            for n in range(first, first + count)
        ]

    return write_shards("cls", {"train": [samples(PER_SHARD * s, PER_SHARD) for s in range(SHARDS)],
                                "val": [samples(50, 4), samples(54, 2)]})  # fmt: skip


@pytest.fixture
def serve(root):
    servers = []

    def start(**options):
        servers.append(ShardServer(options.pop("root", root), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture
def folder(tmp_path):
    """A location -> its folder, with a cache of the test's own."""

    def make(location, gib=1.0, stream=False, cache="cache"):
        return open_folder(str(location), cache=str(tmp_path / cache), cache_gib=gib, stream=stream)

    return make
