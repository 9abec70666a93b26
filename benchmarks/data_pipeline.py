"""Parts of benchmarks/data.py: what readers add to decoding and transforms, and what reduced decoding saves."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import torch
from tables import header, line, ratios, spread

from ufo_ds.data.batch import Batch
from ufo_ds.data.decode import EncodedImage
from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.data.shards import ShardSet
from ufo_ds.data.stream import TaskStream, _sample_seed, make_order
from ufo_ds.recipe import ClsConfig, DetConfig, SegConfig
from ufo_ds.tasks.classification import examples as classification
from ufo_ds.tasks.detection import examples as detection
from ufo_ds.tasks.segmentation import examples as segmentation

TASKS = {  # configuration, module, images a batch, what it is
    "cls": (ClsConfig(), classification, 8, "400-900 px to 448 x 448"),
    "det": (DetConfig(), detection, 2, "2048 x 2048 to a canvas of 1280 x 1280"),
    "seg": (SegConfig(), segmentation, 2, "720 x 1280 to crops of 720 x 1280"),
}
SEED = 0
AHEAD = 3
"""Batches that a reader makes before it waits: two are kept for it, one is in its hands."""


def open_stream(shards: Path, task: str, workers: int, start_step: int = 0) -> TaskStream:
    """The training stream of a task, as a run of one rank opens it."""
    config, module, batch, _ = TASKS[task]
    samples = ShardSet(shards, task, "train")
    order = make_order(samples, task, SEED, window=4, balance=False)
    transform = module.TrainTransform(config, samples.meta)
    options = {"batch": batch, "seed": SEED, "start_step": start_step, "workers": workers}
    return TaskStream(samples, transform, module.collate, order, **options)


def pipelines(shards: Path, repeats: int, quick: bool) -> list[dict]:
    """Batches of one reader process / the transforms of the same samples one by one, with their bytes at hand."""
    header("task", "bare loop", "one reader", "reader / bare, samples/s", "CPU a sample, bare",
           "CPU a sample, reader and consumer", "ratio")  # fmt: skip
    rows = []
    for task, (_, _, batch, what) in TASKS.items():
        steps = 2 if quick else {"cls": 30, "det": 15, "seg": 30}[task]
        bare, read = _race(shards, task, steps, repeats)
        count = steps * batch
        line(f"{task}, {what}", *(f"{count / statistics.median(way[0]):.1f}/s" for way in (bare, read)),
             spread(ratios(bare[0], read[0]), 3),
             *(f"{1e3 * statistics.median(way[1]) / count:.2f} ms" for way in (bare, read)),
             spread(ratios(read[1], bare[1]), 3))  # fmt: skip
        rows.append({"task": task, "samples": count, "bare": bare, "read": read})
    return rows


def _race(shards: Path, task: str, steps: int, repeats: int) -> tuple[tuple, tuple]:
    """(wall, CPU) seconds of the bare loop and of the stream, in turn, over the same samples."""
    config, module, batch, _ = TASKS[task]
    bare, read = ([], []), ([], [])
    samples = ShardSet(shards, task, "train")
    transform, order = module.TrainTransform(config, samples.meta), make_order(samples, task, SEED, 4, balance=False)
    _one_thread()
    with open_stream(shards, task, workers=1) as stream:
        for _ in range(repeats):
            _take(stream, AHEAD)  # what was made while the bare loop ran
            positions = range(stream.step * batch, (stream.step + steps) * batch)
            began, spent = time.perf_counter(), _cpu_seconds()
            _take(stream, steps)
            read[0].append(time.perf_counter() - began)
            read[1].append(_cpu_seconds() - spent)
            raws = [samples[order.index(position)] for position in positions]
            _wait_for_idle()
            began, spent = time.perf_counter(), time.process_time()
            for position, raw in zip(positions, raws, strict=True):
                torch.default_generator.manual_seed(_sample_seed(SEED, task, position))
                transform(raw)
            bare[0].append(time.perf_counter() - began)
            bare[1].append(time.process_time() - spent)
    return bare, read


def _take(batches: Iterator[Batch], count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass


def _cpu_seconds() -> float:
    """Of this process and of the readers that it has (whose clock ticks in hundredths)."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _wait_for_idle() -> None:
    """Until the readers have filled what is kept for them, so that they do not disturb."""
    before, now = -1.0, _cpu_seconds()
    while now - before > 0.02:
        time.sleep(0.3)
        before, now = now, _cpu_seconds()


def _one_thread() -> None:
    """As in a reader."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


# ---- reduced decoding ----


def reductions(seed: int, repeats: int, quick: bool) -> list[dict]:
    """Transforms with decoding at the size that is needed / the same with decoding whole, on JPEGs of quality 90."""
    from data_pictures import Scenes

    scenes = Scenes(seed)
    count = 1 if quick else 6
    _one_thread()
    header("transform", "picture", "whole", "reduced", "whole / reduced")
    rows = []
    for name, height, width, transform in _reduction_cases():
        members = {"cls": b"0", "json": b'{"image_id": 1, "annotations": []}'}
        raws = [RawSample("a.jpg", {"jpg": scenes.jpeg(height, width), **members}) for _ in range(count)]
        seconds: dict[str, list[float]] = {"whole": [], "reduced": []}
        for repeat in range(repeats + 1):
            for way in ("whole", "reduced") if repeat % 2 else ("reduced", "whole"):
                spent = _transforms(transform, raws, whole=way == "whole")
                if repeat:
                    seconds[way].append(spent / count)
        line(name, f"{width} x {height}", *(f"{1e3 * statistics.median(values):.1f} ms" for values in seconds.values()),
             spread(ratios(seconds["whole"], seconds["reduced"])))  # fmt: skip
        rows.append({"name": name, "size": [height, width], **seconds})
    return rows


def _reduction_cases() -> list[tuple[str, int, int, Callable]]:
    meta = {task: TaskMeta(task, "benchmark", [ClassInfo(0, "one")], {}) for task in TASKS}
    cls_train = classification.TrainTransform(ClsConfig(), meta["cls"])
    cls_eval = classification.EvalTransform(ClsConfig(), meta["cls"])
    det_train = detection.TrainTransform(DetConfig(), meta["det"])
    det_eval = detection.EvalTransform(DetConfig(), meta["det"])
    seg_eval = segmentation.EvalTransform(SegConfig(eval_size=(360, 640)), meta["seg"])
    return [
        ("cls 448 x 448, training", 1024, 1536, cls_train),
        ("cls 448 x 448, training", 2048, 2048, cls_train),
        ("cls 448 x 448, evaluation", 2048, 2048, cls_eval),
        ("det 1280 x 1280, training", 2048, 2048, det_train),
        ("det 1280 x 1280, training", 3072, 4096, det_train),
        ("det 1280 x 1280, evaluation", 3072, 4096, det_eval),
        ("seg 360 x 640, evaluation", 720, 1280, seg_eval),
    ]


def _transforms(transform: Callable, raws: list[RawSample], whole: bool) -> float:
    """CPU seconds, with the same draws each time."""
    reduced = EncodedImage.decode
    if whole:
        EncodedImage.decode = lambda image, scale=1.0: reduced(image)
    try:
        torch.default_generator.manual_seed(0)
        began = time.process_time()
        for raw in raws:
            transform(raw)
        return time.process_time() - began
    finally:
        EncodedImage.decode = reduced
