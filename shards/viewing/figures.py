"""What the samples of a split are like: classes, sizes of images and boxes, pixels a class. No image is decoded."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from tqdm import tqdm

from shards.image_check import UnfitError
from shards.sample_check import read_boxes, read_class
from ufo_ds.data.decode import FORMATS, DecodeError, decode_mask
from ufo_ds.data.schema import IGNORE_ID, Member, SplitMeta, TaskMeta, label_extension, read_index
from ufo_ds.data.shards import ShardSet, open_shards
from ufo_ds.errors import UserError

MOST_HEADERS = 20_000
"""Of larger splits, so many image headers are read, evenly spread: each is a place of its own on the disk."""
MOST_MASKS = 1_000
"""Of larger splits, so many masks are decoded, evenly spread."""
_HEADER_BYTES = (4096, 1 << 16)
"""A header mostly stands in the first; with EXIF and colour profiles before it, in the second."""


@dataclass
class SplitFigures:
    """A split in numbers.

    Attributes:
        meta: of the task.
        name: of the split.
        shards: its samples.
        counts: by class index, float64 [K]: images (cls), boxes (det), pixels (seg).
        ignored: pixels with the id 255 (seg).
        sizes: int [n, 2], width and height in pixels of the images whose headers were read.
        boxes: a detection image, int [N].
        sides: sqrt(w * h) of the boxes, pixels, float [M].
        masks: that were decoded (seg).
        unreadable: labels and headers that say nothing.
    """

    meta: TaskMeta
    name: str
    shards: ShardSet
    counts: np.ndarray
    ignored: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    boxes: list[int] = field(default_factory=list)
    sides: list[float] = field(default_factory=list)
    masks: int = 0
    unreadable: int = 0

    @property
    def split(self) -> SplitMeta:
        """What `meta.json` says of it."""
        return self.meta.splits[self.name]

    @property
    def bytes(self) -> int:
        """Of its tars."""
        return sum(shard.bytes for shard in self.split.shards)


def read_figures(root: Path, tasks: list[str], only: str | None) -> list[SplitFigures]:
    """The figures of tasks and splits, with a progress bar where it takes a while.

    Raises:
        UserError: shards that cannot be opened, or no such split in any of the tasks.
    """
    metas = [TaskMeta.read(root, task) for task in tasks]
    wanted = [(meta, name) for meta in metas for name in meta.splits if only in (None, name)]
    if not wanted:
        there = ", ".join(f"{meta.task}: {', '.join(meta.splits)}" for meta in metas)
        raise UserError(f"--split {only}: not in {root} ({there}); choose one of these")
    total = sum(meta.splits[name].samples for meta, name in wanted)
    interval = 0.2 if sys.stderr.isatty() else 5.0
    with tqdm(total=total, unit="img", desc="reading", mininterval=interval, delay=2, leave=False) as bar:
        return [_read_split(root, meta, name, bar) for meta, name in wanted]


def _read_split(root: Path, meta: TaskMeta, name: str, bar: tqdm) -> SplitFigures:
    figures = SplitFigures(meta, name, open_shards(root, meta.task, name), np.zeros(meta.num_classes))
    total = len(figures.shards)
    headers, masks = _evenly(total, MOST_HEADERS), _evenly(total, MOST_MASKS)
    for number, (file, members) in enumerate(_samples(root / meta.task, figures.split)):
        by_extension = {member.ext.lower(): member for member in members}
        label = by_extension.get(label_extension(meta.task, by_extension))
        try:
            if number in headers:
                figures.sizes.append(_image_size(file, members[0]))
            if label and (meta.task != "seg" or number in masks):
                _count(figures, _read(file, label))
        except (UnfitError, DecodeError):
            figures.unreadable += 1
        bar.update()
    return figures


def _evenly(total: int, most: int) -> range | frozenset[int]:
    """Numbers of at most `most` samples out of `total`, evenly spread."""
    if total <= most:
        return range(total)
    return frozenset(np.linspace(0, total - 1, most).round().astype(int).tolist())


def _samples(folder: Path, split: SplitMeta) -> Iterator[tuple[BinaryIO, list[Member]]]:
    """The samples of a split, each with the open tar that holds it; one shard's index in memory at a time."""
    for info in split.shards:
        try:
            with (folder / info.name).open("rb", buffering=0) as file:
                for members in read_index(folder / info.index_name):
                    yield file, members
        except OSError as error:
            raise UserError(f"{folder / info.name}: cannot be read ({error.strerror}); copy it again") from None


def _read(file: BinaryIO, member: Member, limit: int | None = None) -> bytes:
    file.seek(member.offset)
    return file.read(member.size if limit is None else min(limit, member.size))


def _image_size(file: BinaryIO, member: Member) -> tuple[int, int]:
    """Width and height of the stored raster, from the header."""
    for limit in (*_HEADER_BYTES, None):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return Image.open(io.BytesIO(_read(file, member, limit)), formats=FORMATS).size
        except Exception as error:  # decoders raise whatever they like on broken files
            if limit is None or limit >= member.size:
                raise UnfitError(str(error)) from None
    raise AssertionError


def _count(figures: SplitFigures, label: bytes) -> None:
    """Add a label to the figures; ids that are no class are counted as unreadable."""
    meta = figures.meta
    try:
        if meta.task == "cls":
            figures.counts[meta.index_of(read_class(label))] += 1
        elif meta.task == "det":
            annotations = read_boxes(label).annotations
            if annotations is not None:
                indices = [meta.index_of(item["category_id"]) for item in annotations]
                np.add.at(figures.counts, indices, 1)
                figures.boxes.append(len(annotations))
                figures.sides += [(item["bbox"][2] * item["bbox"][3]) ** 0.5 for item in annotations]
        else:
            pixels = np.bincount(decode_mask(label).reshape(-1), minlength=256)
            figures.counts += pixels[: meta.num_classes]
            figures.ignored += int(pixels[IGNORE_ID])
            figures.masks += 1
    except UserError as error:
        raise UnfitError(str(error)) from None
