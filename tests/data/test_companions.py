"""Examples of several samples: the same from any start, with any workers and ranks; what they take is known."""

import itertools
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from test_stream import names, same

from ufo_ds.data.batch import Batch
from ufo_ds.data.companions import Chance
from ufo_ds.data.order import Order
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import ShardSet
from ufo_ds.data.stream import TaskStream, make_order
from ufo_ds.distributed import Ranks
from ufo_ds.recipe import DataConfig, DetConfig, Recipe, TasksConfig
from ufo_ds.recipe.plain import closing_step, plain
from ufo_ds.tasks.detection.examples import TrainTransform, collate
from ufo_ds.training.streams import make_streams

CONFIG = DetConfig(size=(64, 64), mosaic=0.6, copy_paste=0.5, scale_jitter=(0.5, 2.0), hflip=0.5)
COUNT, PER_SHARD = 28, 4


def sample(number, broken=False):
    generator = np.random.default_rng(number)
    image = cv2.imencode(".jpg", generator.integers(0, 255, (70, 90, 3), np.uint8))[1].tobytes()
    boxes = [{"bbox": [10 + 30 * i, 20, 12, 16], "category_id": (number + i) % 3, "iscrowd": 0, "area": 192}
             for i in range(2)]  # fmt: skip
    label = {"image_id": number, "width": 90, "height": 70, "annotations": boxes}
    return [(f"{number:02d}.jpg", image[:-60] if broken else image), (f"{number:02d}.json", json.dumps(label).encode())]


@pytest.fixture
def make_root(write_shards):
    def make(*broken):
        samples = [sample(number, number in broken) for number in range(COUNT)]
        return write_shards("det", {"train": [samples[i : i + PER_SHARD] for i in range(0, COUNT, PER_SHARD)]})

    return make


def open_stream(shards, config=CONFIG, **options):
    order = make_order(shards, "det", 5, 2, False, everywhere=config.copy_paste > 0)
    transform = TrainTransform(config, shards.meta)
    transform.survey(shards)
    return TaskStream(shards, transform, collate, order, seed=5, **{"batch": 4, **options})


def take(shards, count, config=CONFIG, **options):
    with open_stream(shards, config, **options) as batches:
        return list(itertools.islice(batches, count))


def test_batches_are_the_same_from_any_step_with_any_workers(make_root):
    shards = ShardSet(make_root(), "det", "train")
    whole = take(shards, 9)  # an epoch and more
    assert sum(len(target["boxes"]) > 2 for batch in whole for target in batch.targets) > 9
    for options in ({"start_step": 3}, {"start_step": 3, "workers": 2}):
        for batch, other in zip(whole[3:], take(shards, 6, **options), strict=True):
            same(batch, other)


def test_ranks_share_the_global_batch_of_one(make_root):
    shards = ShardSet(make_root(), "det", "train")
    parts = [take(shards, 4, batch=2, rank=rank, world=2) for rank in (0, 1)]
    for batch, first, second in zip(take(shards, 4), *parts, strict=True):
        same(batch, Batch("det", torch.cat([first.images, second.images]), first.targets + second.targets,
                          first.sources + second.sources))  # fmt: skip


def test_what_a_batch_takes_is_what_was_announced(make_root):
    read, taken = [], []

    class Watched(ShardSet):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    with open_stream(Watched(make_root(), "det", "train")) as batches:
        for step in range(8):
            read.clear()
            next(batches)
            assert batches._make.samples_of(step) == read
            taken.append(len(read))
    assert min(taken) >= 4 and len(set(taken)) > 3


def test_companions_for_a_mosaic_come_from_the_window_and_not_from_the_batch(make_root):
    shards = ShardSet(make_root(), "det", "train")
    config = DetConfig(mosaic=1.0)
    with open_stream(shards, config) as batches:
        order, neighbours, places = batches._make.order, 0, set()
        for position in range(3 * COUNT):
            found = [one.index for one in batches._make._companions(TrainTransform(config, shards.meta), position)]
            assert len(set(found)) == 3 and order.index(position) not in found
            near = order.window(position)
            assert position in near and set(found) <= {order.index(other) for other in near}
            batch = range(position - position % 4, position - position % 4 + 4)
            neighbours += len(set(found) & {order.index(other) for other in batch})
            places |= {(position % COUNT, index) for index in found}
    assert neighbours < 3 * 3 * COUNT * 0.6  # 3 of the 7 others of a window are in the batch: 43 %
    assert len(places) > 2 * COUNT


def test_windows_are_those_that_are_shuffled_together(make_root):
    shards = ShardSet(make_root(), "det", "train")
    order = make_order(shards, "det", 5, 3, False)
    for epoch in (0, 1):
        first, sizes = epoch * COUNT, []
        while first < (epoch + 1) * COUNT:
            near = order.window(first)
            assert near.start == first and all(order.window(other) == near for other in near)
            sizes.append(len({order.index(other) // PER_SHARD for other in near}))
            first = near.stop
        assert sizes == [3, 3, 1]
    assert Order(5, lambda epoch: np.arange(5)).window(12) == range(10, 15)


def test_a_split_of_one_sample_is_a_mosaic_of_it(write_shards):
    shards = ShardSet(write_shards("det", {"train": [[sample(0)]]}), "det", "train")
    assert len(take(shards, 2, DetConfig(size=(64, 64), mosaic=1.0), batch=1)) == 2


def test_broken_companions_are_left_out_alike_everywhere_and_counted(make_root):
    shards = ShardSet(make_root(), "det", "train")
    with open_stream(shards) as batches:
        make = batches._make
        taken = [make.samples_of(step).count(9) for step in range(10)]
    sound = take(shards, 10)
    broken = take(ShardSet(make_root(9), "det", "train"), 10)
    assert [batch.replaced for batch in broken] == taken and sum(taken) > 1
    for batch, other in zip(broken, take(ShardSet(make_root(9), "det", "train"), 10, workers=2), strict=True):
        same(batch, other)
    for batch, other, count in zip(broken, sound, taken, strict=True):
        assert count or torch.equal(batch.images, other.images)


def test_the_closing_batches_are_plain_from_their_number_on(make_root):
    shards = ShardSet(make_root(), "det", "train")
    closing = 5, TrainTransform(plain(CONFIG), shards.meta)
    strong, calm = take(shards, 8), take(shards, 8, plain(CONFIG))
    for options in ({}, {"workers": 2}):
        for batch, other in zip(take(shards, 8, closing=closing, **options), strong[:5] + calm[5:], strict=True):
            same(batch, other)
    for start in (4, 6):
        found = take(shards, 2, closing=closing, start_step=start)
        for batch, other in zip(found, (strong[:5] + calm[5:])[start : start + 2], strict=True):
            same(batch, other)
    assert names(strong) == names(calm)


def test_a_run_closes_with_the_share_of_its_steps_that_the_recipe_says(make_root):
    recipe = Recipe(tasks=TasksConfig(names=["det"], det=CONFIG), data=DataConfig(shards=str(make_root()), workers=0))
    recipe.train.steps, recipe.train.accumulate, recipe.train.close_augment = 10, 2, 0.35
    metas = {"det": TaskMeta.read(recipe.data.shards, "det")}
    stream = make_streams(recipe, metas, Ranks(0, 1, 0, 1), 0)["det"]
    number, transform = stream._make.closing
    assert closing_step(recipe.train) == 6 and number == 12
    assert transform.config == replace(CONFIG, mosaic=0.0, copy_paste=0.0)
    assert any(len(stream._make.samples_of(step)) > 2 for step in range(9, 12))
    assert all(len(stream._make.samples_of(step)) == 2 for step in range(12, 30))
    recipe.train.close_augment = 0.0
    assert make_streams(recipe, metas, Ranks(0, 1, 0, 1), 0)["det"]._make.closing is None


def test_chance_is_the_same_everywhere():
    chance = Chance("companions", 7, "det", 3)
    assert [chance.below(1000) for _ in range(4)] == [457, 326, 863, 832]
    draws = [Chance(position).uniform() for position in range(2000)]
    assert 0 <= min(draws) < 0.01 and 0.99 < max(draws) < 1 and abs(np.mean(draws) - 0.5) < 0.02
