"""The stream is a function of the step: of no start, number of workers or of ranks. Errors are one line."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.decode import DecodeError
from ufo_ds.data.shards import ShardSet
from ufo_ds.data.stream import MAX_BROKEN, TaskStream, evaluation_batches, make_order
from ufo_ds.errors import UserError
from ufo_ds.recipe import ClsConfig
from ufo_ds.tasks.classification import examples as cls

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ClsConfig(size=(32, 32), crop_scale=(0.3, 1.0), hflip=0.5, color_jitter=0.4)
SHARDS = ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17, 18])


def jpeg(number):
    noise = np.random.default_rng(number).integers(0, 255, (40, 50, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


class Draw:
    """An image of chance and the sample's number; what is broken or wrong says so."""

    def __call__(self, raw):
        payload = raw.members["jpg"]
        if payload == b"broken":
            raise DecodeError("the image cannot be decoded")
        if payload == b"wrong":
            raise UserError("no class (.cls member); build the shards from labelled data")
        if payload == b"deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        image = torch.randint(256, (3, 200, 200), dtype=torch.uint8)
        target = {"boxes": torch.rand(int(raw.members["cls"]), 4), "empty": torch.zeros(0, dtype=torch.int64)}
        return Example(image, target, {"file_name": raw.file_name, "size": (200, 200)})


def collate(examples):
    images = torch.stack([example.image for example in examples])
    return Batch("cls", images, [e.target for e in examples], [e.source for e in examples])


def members(number, payload):
    return [(f"{number:02d}.jpg", payload), (f"{number:02d}.cls", str(number % 3).encode())]


@pytest.fixture
def pictures(write_shards):
    """19 real JPEGs in 3 shards."""
    return ShardSet(
        write_shards("cls", {"train": [[members(n, jpeg(n)) for n in part] for part in SHARDS]}), "cls", "train"
    )


@pytest.fixture
def make_set(write_shards):
    """The same without pictures, some payloads replaced."""

    def make(**payloads):
        by_number = {int(key[1:]): value for key, value in payloads.items()}
        shards = [[members(n, by_number.get(n, b"sound")) for n in part] for part in SHARDS]
        return ShardSet(write_shards("cls", {"train": shards}), "cls", "train")

    return make


def stream(shards, transform=None, balance=False, **options):
    transform, function = (transform, collate) if transform else (cls.TrainTransform(CONFIG, shards.meta), cls.collate)
    order = make_order(shards, "cls", 5, 2, balance)
    return TaskStream(shards, transform, function, order, seed=5, **{"batch": 4, **options})


def take(shards, count, transform=None, **options):
    with stream(shards, transform, **options) as batches:
        return list(itertools.islice(batches, count))


def same(batch, other):
    assert batch.sources == other.sources and batch.replaced == other.replaced
    assert (batch.images == other.images).all()
    if isinstance(batch.targets, torch.Tensor):
        assert (batch.targets == other.targets).all() and batch.targets.dtype == other.targets.dtype
    else:
        for one, two in zip(batch.targets, other.targets, strict=True):
            assert all(torch.equal(one[key], two[key]) and one[key].dtype == two[key].dtype for key in one)


def names(batches):
    return [source["file_name"] for batch in batches for source in batch.sources]


# ---- training ----


@pytest.mark.parametrize("balance", [False, True])
def test_a_stream_started_later_goes_on_as_one_that_never_stopped(pictures, balance):
    whole = take(pictures, 12, balance=balance)
    for start in (1, 4, 9):
        for batch, other in zip(
            whole[start:], take(pictures, 12 - start, start_step=start, balance=balance), strict=True
        ):
            same(batch, other)


def test_any_number_of_workers_gives_the_same_batches(pictures):
    alone = take(pictures, 11, start_step=2)
    for workers in (1, 2):
        for batch, other in zip(alone, take(pictures, 11, start_step=2, workers=workers), strict=True):
            same(batch, other)


def test_ranks_share_the_global_batch_of_one(pictures):
    whole = take(pictures, 6)
    parts = [take(pictures, 6, batch=2, rank=rank, world=2) for rank in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        same(batch, Batch("cls", torch.cat([first.images, second.images]), torch.cat([first.targets, second.targets]),
                          first.sources + second.sources))  # fmt: skip


def test_every_epoch_shows_every_sample_once_augmented_anew(make_set):
    batches = take(make_set(), 19, Draw())
    drawn = names(batches)
    for epoch in range(4):
        assert sorted(drawn[19 * epoch : 19 * (epoch + 1)]) == [f"{n:02d}.jpg" for n in range(19)]
    images = torch.cat([batch.images for batch in batches])
    assert len({image.numpy().tobytes() for image in images}) == 76


def test_the_balanced_order_goes_by_the_labels(pictures):
    drawn = torch.cat([batch.targets for batch in take(pictures, 19, balance=True)])
    counts = Counter(drawn[:19].tolist())
    assert set(counts) == {0, 1, 2} and max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("workers", [0, 1])
def test_the_random_state_of_the_training_is_left_alone(pictures, workers):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    batches = take(pictures, 3, workers=workers)
    assert torch.equal(torch.rand(4), expected)
    for batch, other in zip(batches, take(pictures, 3), strict=True):
        same(batch, other)


def test_epochs_and_steps_are_counted(make_set):
    with stream(make_set(), Draw(), batch=5, rank=1, world=2, start_step=19) as batches:
        assert batches.step == 19 and batches.epoch == 10.0
        next(batches)
        assert batches.step == 20 and batches.epoch == pytest.approx(200 / 19)


def test_closing_ends_the_processes_and_asking_again_goes_on(make_set):
    shards = make_set()
    expected = take(shards, 4, Draw())
    batches = stream(shards, Draw(), workers=2)
    first = [next(batches), next(batches)]
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    batches.close()
    assert not multiprocessing.active_children()
    for batch, other in zip(expected, [*first, next(batches), next(batches)], strict=True):
        same(batch, other)
    batches.close()


# ---- samples that are not as they should be ----


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_sample_is_replaced_by_its_successor_and_counted(make_set, workers):
    sound = make_set()
    order = make_order(sound, "cls", 5, 2, False)
    undisturbed = take(sound, 10, Draw())
    broken = make_set(_3=b"broken", _7=b"broken")  # in the place of the sound one
    positions = [order.index(p) for p in range(40 + MAX_BROKEN)]
    expected = [next(n for n in positions[p:] if n not in (3, 7)) for p in range(40)]
    batches = take(broken, 10, Draw(), workers=workers)
    assert names(batches) == [f"{n:02d}.jpg" for n in expected]
    assert [b.replaced for b in batches] == [sum(n in (3, 7) for n in positions[4 * i : 4 * i + 4]) for i in range(10)]
    # A place keeps its augmentation, whoever takes it.
    for batch, other in zip(batches, undisturbed, strict=True):
        assert torch.equal(batch.images, other.images)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_broken_samples_in_a_row_end_the_stream_in_one_line(make_set, workers):
    shards = make_set(**{f"_{n}": b"broken" for n in range(19)})
    with pytest.raises(UserError, match=r"train-00000\d\.tar: \d\d\.jpg: the image cannot be decoded, as 15") as error:
        take(shards, 1, Draw(), workers=workers)
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_the_data_is_one_line_from_any_process(make_set, workers):
    with pytest.raises(UserError) as error:
        take(make_set(_6=b"wrong"), 5, Draw(), workers=workers)
    message = str(error.value)
    assert message.endswith("train-000001.tar: 06.jpg: no class (.cls member); build the shards from labelled data")
    assert "\n" not in message and not multiprocessing.active_children()


def test_readers_that_are_killed_again_and_again_are_one_line(make_set):
    with pytest.raises(UserError, match=r"a reader process ended early, 3 times in a row .*lower data\.workers"):
        take(make_set(_2=b"deadly"), 5, Draw(), workers=1)


def test_a_killed_reader_costs_no_batch(make_set, capfd):
    shards = make_set()
    undisturbed = take(shards, 12, Draw())
    with stream(shards, Draw(), workers=2) as batches:
        found = []
        for number in range(12):
            found.append(next(batches))
            if number in (2, 3, 7):
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    assert names(found) == names(undisturbed)
    for batch, other in zip(found, undisturbed, strict=True):
        assert torch.equal(batch.images, other.images)
    assert "a reader process ended early" in capfd.readouterr().err
    assert not multiprocessing.active_children()


def swap(shard):
    """Another tar of the same size, under the same name."""
    other = shard.with_suffix(".other")
    other.write_bytes(bytes(shard.stat().st_size))
    other.replace(shard)


@pytest.mark.parametrize("fault", [swap, Path.unlink], ids=["swapped", "removed"])
def test_a_shard_that_changes_under_the_stream_is_named_when_it_is_opened_anew(make_set, fault):
    """What is open already is read on, whatever stands under its name by now."""
    shards = make_set()
    undisturbed = names(take(shards, 12, Draw()))
    shard = shards.path_of(0)
    with stream(shards, Draw(), workers=1) as batches:
        found = names([next(batches) for _ in range(6)])  # an epoch: every shard is open
        fault(shard)
        found += names([next(batches) for _ in range(3)])
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        with pytest.raises(UserError) as error:
            found.extend(batch.sources[0]["file_name"] for batch in batches)
    assert found[: 4 * 9] == undisturbed[: 4 * 9]
    assert str(shard) in str(error.value) and "run shards/build.py again" in str(error.value)


def test_readers_leave_sigterm_to_the_training(make_set):
    """A launcher sends it to all processes there are; the training wants its last batches before it goes."""
    shards = make_set()
    with stream(shards, Draw(), workers=2) as batches:
        found = [next(batches)]
        readers = multiprocessing.active_children()
        server = int(Path(f"/proc/{readers[0].pid}/stat").read_text().rpartition(")")[2].split()[1])
        subprocess.run(["kill", "-TERM", str(server), *(str(reader.pid) for reader in readers)], check=True)
        found += [next(batches) for _ in range(11)]
        assert multiprocessing.active_children() == readers
    assert names(found) == names(take(shards, 12, Draw()))


def test_a_batch_larger_than_the_split_goes_round(make_set):
    shards = make_set()
    found = names(take(shards, 3, Draw(), batch=50))
    assert found == names(take(shards, 150, Draw(), batch=1))
    assert all(len(set(found[first : first + 19])) == 19 for first in range(0, 133, 19))


def test_balance_needs_classes(write_shards):
    root = write_shards("cls", {"train": [[[("a.jpg", b"x"), ("a.cls", b"seven")]]]})
    with pytest.raises(UserError, match=r"a\.jpg: class b'seven' is not an integer"):
        make_order(ShardSet(root, "cls", "train"), "cls", 0, 1, True)


# ---- evaluation ----


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_everything_once_in_order(make_set, workers):
    shards = make_set()
    found = [list(evaluation_batches(shards, Draw(), collate, batch=4, rank=rank, world=3, workers=workers if rank == 0
                                     else 0)) for rank in range(3)]  # fmt: skip
    assert [[len(batch.images) for batch in batches] for batches in found] == [[4, 3], [4, 2], [4, 2]]
    for rank in range(3):
        assert names(found[rank]) == shards.file_names[rank::3]
    assert not multiprocessing.active_children()


def test_evaluation_can_be_limited_and_a_rank_may_have_nothing(make_set):
    shards = make_set()
    found = [
        names(evaluation_batches(shards, Draw(), collate, batch=4, rank=rank, world=3, limit=2)) for rank in range(3)
    ]
    assert found == [["00.jpg"], ["01.jpg"], []]


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_passes_over_nothing(make_set, workers):
    batches = evaluation_batches(make_set(_5=b"broken"), Draw(), collate, batch=2, workers=workers)
    assert [names([next(batches)]), names([next(batches)])] == [["00.jpg", "01.jpg"], ["02.jpg", "03.jpg"]]
    with pytest.raises(UserError, match=r"train-000001\.tar: 05\.jpg: the image cannot be decoded; mend or remove"):
        next(batches)


# ---- the end of the process ----

SCRIPT = """
import multiprocessing, os, signal, sys
from ufo_ds.data.shards import ShardSet
from ufo_ds.data.stream import TaskStream, make_order
from ufo_ds.tasks.classification.examples import TrainTransform, collate
from ufo_ds.recipe import ClsConfig

if __name__ == "__main__":
    shards = ShardSet(sys.argv[1], "cls", "train")
    config = ClsConfig(size=(32, 32), crop_scale=(0.3, 1.0), hflip=0.5, color_jitter=0.4)
    order = make_order(shards, "cls", 0, 2, False)
    stream = TaskStream(shards, TrainTransform(config, shards.meta), collate, order, batch=4, seed=0, workers=2)
    next(stream)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


SLOW = """
import os, time
from ufo_ds.tasks.classification.examples import TrainTransform

class Slow(TrainTransform):
    def __setstate__(self, state):
        self.__dict__.update(state)
        try:
            os.open(os.environ["FIRST"], os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            time.sleep(1.5)
"""


def test_a_reader_that_still_starts_when_its_process_ends_says_nothing(pictures, tmp_path):
    """It would look for semaphores that are gone."""
    (tmp_path / "slow.py").write_text(SLOW)
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.replace("TrainTransform(", "Slow(").replace("if __name__", "from slow import Slow\nif __name__")
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "FIRST": str(tmp_path / "first")}
    command = [sys.executable, str(script), str(pictures.root), "left"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert result.returncode == 0 and result.stderr == ""


@pytest.mark.parametrize(("end", "status"), [("left", 0), ("killed", -signal.SIGKILL)])
def test_readers_end_with_their_process(pictures, tmp_path, end, status):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(pictures.root), end]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert result.returncode == status
    assert end == "killed" or result.stderr == ""  # killed: the resource tracker tells what it cleaned up
    readers = [int(pid) for pid in result.stdout.split()]
    assert len(readers) == 2
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in readers):
        assert time.monotonic() < until, "readers outlive their process"
        time.sleep(0.1)
