"""Remote shards give the batches of local ones, however they are read."""

import os
import pickle
import shlex

import pytest
from remote_shards import SHARDS, assert_same, message, pipe, stream, take
from test_stream import Draw, collate, jpeg, names

from ufo_ds.data.remote import CachedShards
from ufo_ds.data.shards import ShardSet, open_shards
from ufo_ds.data.stream import evaluation_batches, make_order
from ufo_ds.data.streamed import StreamedShards


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["http", "no ranges", "pipe", "http stream", "pipe stream"])
def test_remote_batches_are_the_local_ones_from_any_step(root, server, folder, kind, workers):
    server.ranges = "ranges" not in kind
    location = pipe(root) if "pipe" in kind else server.url
    remote = open_shards(folder(location, stream="stream" in kind), "cls", "train")
    assert type(remote) is (StreamedShards if "stream" in kind else CachedShards)
    local = ShardSet(root, "cls", "train")
    assert remote.file_names == local.file_names and remote.meta == local.meta
    whole = take(local, 22)  # two epochs and a half
    assert_same(take(remote, 22, workers=workers), whole)
    assert_same(take(remote, 9, workers=workers, start_step=13), whole[13:])


def test_the_balanced_order_is_the_local_one_and_has_all_shards_first(root, server, folder):
    remote = open_shards(folder(server.url), "cls", "train")
    batches = take(remote, 3, balance=True)
    assert len(server.count()) == SHARDS and set(server.count().values()) == {1}
    assert_same(batches, take(ShardSet(root, "cls", "train"), 3, balance=True))


def test_ranks_on_one_machine_share_the_cache(root, server, folder):
    found = [take(open_shards(folder(server.url), "cls", "train"), 9, batch=2, rank=r, world=2) for r in (0, 1)]
    local = [take(ShardSet(root, "cls", "train"), 9, batch=2, rank=r, world=2) for r in (0, 1)]
    for batches, expected in zip(found, local, strict=True):
        assert_same(batches, expected)
    assert set(server.count().values()) == {1}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_walks_a_remote_split_once(root, server, folder, streamed, workers):
    remote = open_shards(folder(server.url, stream=streamed), "cls", "val")
    assert names(evaluation_batches(remote, Draw(), collate, batch=2, workers=workers)) == remote.file_names
    assert [remote[i] for i in range(6)] == [ShardSet(root, "cls", "val")[i] for i in range(6)]


def test_a_pickle_reads_the_same_and_takes_nothing_along(root, server, folder):
    for streamed in (False, True):
        shards = open_shards(folder(server.url, stream=streamed), "cls", "train")
        expected = shards[12]
        data = pickle.dumps(shards)
        assert jpeg(12) not in data
        assert pickle.loads(data)[12] == expected


def test_s3_goes_through_the_aws_command(root, folder, tmp_path, monkeypatch):
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(f'#!/bin/sh\n[ "$1 $2 $3 $5" = "s3 cp --only-show-errors -" ] || exit 9\n'
                   f'exec cat {shlex.quote(str(root))}/"${{4#s3://a bucket/shards/}}"\n')  # fmt: skip
    aws.chmod(0o755)
    monkeypatch.setenv("PATH", f"{aws.parent}:{os.environ['PATH']}")
    shards = open_shards(folder("s3://a bucket/shards/"), "cls", "train")
    assert shards[3] == ShardSet(root, "cls", "train")[3]
    assert shards.path_of(3) == "s3://a bucket/shards/cls/train-000000.tar"


def test_a_stream_writes_nothing_and_holds_two_windows(server, folder, tmp_path):
    shards = open_shards(folder(server.url, stream=True), "cls", "train")
    with stream(shards) as batches:
        for _ in range(9):
            next(batches)
            assert len(shards._held) <= 4
    shards.close()
    assert not shards._held and not (tmp_path / "cache").exists()


def test_a_stream_fetches_each_shard_once_an_epoch(server, folder):
    shards = open_shards(folder(server.url, stream=True), "cls", "train")
    with stream(shards, batch=5) as batches:
        for _ in range(SHARDS):
            next(batches)
    counts = server.count()
    assert len(counts) == SHARDS and max(counts.values()) <= 2  # the next epoch's first windows come ahead


def test_a_stream_cannot_draw_from_everywhere(server, folder):
    shards = open_shards(folder(server.url, stream=True), "cls", "train")
    line = message(lambda: make_order(shards, "cls", 0, 2, True))
    assert "'tasks.cls.balanced'" in line and "data.remote" in line
