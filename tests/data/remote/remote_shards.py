"""What the tests of remote shards share."""

import shlex

import pytest
from test_stream import CONFIG, same

from ufo_ds.data.stream import TaskStream, make_order
from ufo_ds.errors import UserError
from ufo_ds.tasks.classification import examples as cls

SHARDS, PER_SHARD = 7, 5
GIB = 2**30


def pipe(root, command="cat"):
    return f"pipe:{command} {shlex.quote(str(root))}/{{}}"


def stream(shards, *, window=2, balance=False, **options):
    order = make_order(shards, "cls", 5, window, balance)
    transform = cls.TrainTransform(CONFIG, shards.meta)
    return TaskStream(shards, transform, cls.collate, order, seed=5, **{"batch": 4, **options})


def take(shards, count, **options):
    with stream(shards, **options) as batches:
        return [next(batches) for _ in range(count)]


def shard_size(root):
    return max(path.stat().st_size for path in (root / "cls").glob("train-*.tar"))


def cached(tmp_path, ending=".tar"):
    return sorted((tmp_path / "cache").glob(f"*{ending}"))


def message(call):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    return str(error.value)


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        same(batch, other)
