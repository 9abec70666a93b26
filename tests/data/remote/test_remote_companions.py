"""Examples of several samples come from remote shards as they do from local ones, and fetch no shard more often."""

import pytest
from remote_shards import message
from test_companions import COUNT, PER_SHARD, sample, take
from test_stream import same

from ufo_ds.data.shards import ShardSet, open_shards
from ufo_ds.recipe import DetConfig


@pytest.fixture
def det_root(write_shards):
    samples = [sample(number) for number in range(COUNT)]
    return write_shards("det", {"train": [samples[i : i + PER_SHARD] for i in range(0, COUNT, PER_SHARD)]})


@pytest.mark.parametrize("streamed", [False, True])
def test_a_mosaic_takes_its_pictures_from_shards_that_are_at_hand(det_root, serve, folder, streamed):
    server, mosaic = serve(root=det_root), DetConfig(size=(64, 64), mosaic=0.7)
    remote = open_shards(folder(server.url, stream=streamed), "det", "train")
    batches = take(remote, COUNT // 4, mosaic)
    for batch, other in zip(batches, take(ShardSet(det_root, "det", "train"), COUNT // 4, mosaic), strict=True):
        same(batch, other)
    counts = server.count()
    assert len(counts) == COUNT // PER_SHARD
    assert max(counts.values()) <= 1 + streamed  # the next epoch's first windows come ahead


def test_pasting_draws_from_all_shards(det_root, serve, folder):
    server, pasted = serve(root=det_root), DetConfig(size=(64, 64), copy_paste=0.7)
    batches = take(open_shards(folder(server.url), "det", "train"), 3, pasted)
    assert len(server.count()) == COUNT // PER_SHARD
    for batch, other in zip(batches, take(ShardSet(det_root, "det", "train"), 3, pasted), strict=True):
        same(batch, other)
    streamed = open_shards(folder(server.url, stream=True), "det", "train")
    assert "'tasks.det.copy_paste'" in message(lambda: take(streamed, 1, pasted))
