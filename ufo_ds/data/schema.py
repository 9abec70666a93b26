"""What the shard builder writes and the reader reads: keys, samples, `meta.json`.

Known to both sides, so it imports nothing of UFO-DS but its exception (the index file is in `index.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ufo_ds.data.index import Member, read_index, write_index
from ufo_ds.errors import UserError, reason_of, shown
from ufo_ds.files import read_text, replace_file

__all__ = [
    "FORMAT", "IGNORE_ID", "IMAGE_EXTENSIONS", "META_NAME", "SPLITS", "TASKS", "ClassInfo", "Member", "RawSample",
    "Rejection", "ShardInfo", "SplitMeta", "TaskMeta", "Unmatched", "escape_stem", "file_name_of", "is_inside",
    "label_extension", "read_index", "unescape_key", "write_index",
]  # fmt: skip

TASKS = ("cls", "det", "seg")
SPLITS = ("train", "val", "test")
FORMAT = 1
"""Version of `meta.json` and of what stands in the shards."""
META_NAME = "meta.json"
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "bmp", "webp")
IGNORE_ID = 255
"""Mask value of the pixels that count neither in the loss nor in the score."""

_SHARD_NAME = re.compile(r"[a-z]+-[0-9]{6}\.tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def escape_stem(stem: str) -> str:
    """The WebDataset key of a file stem: every character outside `A-Za-z0-9_~-` percent-encoded (UTF-8).

    WebDataset cuts a member's name at the first dot, so the key must hold none. `unescape_key` reverses it.
    """
    return quote(stem, safe="", errors="surrogateescape").replace(".", "%2E")


def unescape_key(key: str) -> str:
    """The file stem of a key that `escape_stem` made."""
    return unquote(key, errors="surrogateescape")


def file_name_of(member_name: str) -> str:
    """The original file name of an image member: `a%2Eb.JPG` -> `a.b.JPG`."""
    key, _, extension = member_name.partition(".")
    return f"{unescape_key(key)}.{extension}"


def is_inside(name: str) -> bool:
    """Whether a name is a plain file's in some folder, or in a folder of that one: `a.jpg`, `car/a.jpg`."""
    return not any(sign in name for sign in "\\\0") and all(part not in ("", ".", "..") for part in name.split("/"))


def label_extension(task: str, extensions: Container[str]) -> str:
    """Extension of the label of a sample whose members have these, lower-case; `mask.png` beside a PNG image."""
    if task == "seg" and not any(ext in extensions for ext in IMAGE_EXTENSIONS if ext != "png"):
        return "mask.png"
    return {"cls": "cls", "det": "json", "seg": "png"}[task]


@dataclass
class RawSample:
    """One sample as it stands in a shard, undecoded.

    Attributes:
        file_name: of the image, as in the raw download: a path from the split's folder.
        members: payloads by lower-case extension (`jpg`, `cls`, `json`, `png`), the image first.
    """

    file_name: str
    members: dict[str, bytes]

    @property
    def image(self) -> bytes:
        """The image file's own bytes, whatever its extension (`jpg`, `jpeg`, ...)."""
        return next(iter(self.members.values()))

    @property
    def mask(self) -> bytes | None:
        """The label PNG of a segmentation sample; None where it has none."""
        return self.members.get(label_extension("seg", self.members))


@dataclass(frozen=True)
class ClassInfo:
    """A class: `id` as the labels and the submission spell it."""

    id: int
    name: str


@dataclass(frozen=True)
class ShardInfo:
    """A shard of a split: tar name, sample count, size in bytes, SHA-256 in hex."""

    name: str
    samples: int
    bytes: int
    sha256: str

    @property
    def index_name(self) -> str:
        """Name of the index that stands beside the tar."""
        return self.name.removesuffix(".tar") + ".idx"


@dataclass(frozen=True)
class Rejection:
    """An image file that was found and not written."""

    file: str
    reason: str


@dataclass(frozen=True)
class Unmatched:
    """A label entry (list line, annotation, mask) without an image file."""

    entry: str
    reason: str


@dataclass(frozen=True)
class SplitMeta:
    """A split: `found` image files = `samples` written + `len(rejected)`."""

    labelled: bool
    found: int
    samples: int
    shards: list[ShardInfo]
    rejected: list[Rejection]
    unmatched: list[Unmatched]


class _Splits(dict):
    """Splits by name; a missing one is the user's mistake, and the error names those there are."""

    def __missing__(self, name: str) -> SplitMeta:
        raise UserError(
            f"the shards hold no split {name!r}, only {', '.join(self) or 'none'}: "
            "choose one of these or build it with shards/build.py"
        )


@dataclass(frozen=True)
class TaskMeta:
    """`meta.json` of one task.

    Attributes:
        task: `cls`, `det` or `seg`.
        layout: the raw layout that it was built from.
        classes: ascending by id; ids may have holes (det), those of seg are 0..K-1.
        splits: by name; `splits[name]` is a `UserError` where the split is absent.
    """

    task: str
    layout: str
    classes: list[ClassInfo]
    splits: dict[str, SplitMeta]

    @cached_property
    def class_ids(self) -> list[int]:
        """Ids, ascending; the position in this list is the network's class index."""
        return [item.id for item in self.classes]

    @cached_property
    def class_names(self) -> list[str]:
        """Names in the order of `class_ids`."""
        return [item.name for item in self.classes]

    @property
    def num_classes(self) -> int:
        """How many classes there are (K)."""
        return len(self.classes)

    @cached_property
    def _index_by_id(self) -> dict[int, int]:
        return {class_id: index for index, class_id in enumerate(self.class_ids)}

    def index_of(self, class_id: int) -> int:
        """The network's index (0..K-1) of a class id. `UserError` for an id that is no class."""
        try:
            return self._index_by_id[class_id]
        except KeyError:
            problem = f"{class_id} is none of the {self.num_classes} class ids of {self.task}"
            raise UserError(problem) from None

    @classmethod
    def read(cls, shards_root: str | Path, task: str) -> TaskMeta:
        """Read and check `shards_root/<task>/meta.json`.

        Raises:
            UserError: the file is absent (an unfinished build), unreadable, or says something impossible.
        """
        path = Path(shards_root) / task / META_NAME
        try:
            text = read_text(path)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{path}: unfinished or absent build; run shards/build.py with --out "
                            f"{shards_root}") from None  # fmt: skip
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read ({reason_of(error)}); run shards/build.py again") from None
        return cls.parse(text, path, task)

    @classmethod
    def parse(cls, text: str | bytes, place: str | Path, task: str) -> TaskMeta:
        """Check the text of a `meta.json`; messages name it by `place`. Raises `UserError` as `read`."""
        try:
            value = json.loads(text.decode() if isinstance(text, bytes) else text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: cannot be read ({error}); run shards/build.py again") from None
        return _parse_meta(value, place, task)

    def write(self, shards_root: str | Path) -> Path:
        """Write `shards_root/<task>/meta.json` atomically; returns its path."""
        path = Path(shards_root) / self.task / META_NAME
        plain = replace(self, splits=dict(self.splits))  # asdict rebuilds a dict subclass entry by entry
        value = {"format": FORMAT, **asdict(plain)}
        replace_file(path, json.dumps(value, indent=1) + "\n")
        return path


# ---- checking what was read ----


class _Checked:
    """A JSON object being read: takes keys with their types, and names file and key where they are wrong."""

    def __init__(self, value: Any, path: str | Path, where: str) -> None:
        self.path, self.where = path, where
        self.require(isinstance(value, dict), "", "is not an object")
        self.value = value

    def require(self, condition: bool, key: str, problem: str) -> None:
        if not condition:
            place = ".".join(part for part in (self.where, key) if part) or "the file"
            raise UserError(f"{self.path}: {place} {problem}; run shards/build.py again")

    def take(self, key: str, kind: type) -> Any:
        self.require(key in self.value, key, "is missing")
        value = self.value[key]
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        self.require(right, key, f"is {shown(value, 60)}, not of type {kind.__name__}")
        if kind is int:
            self.require(value >= 0, key, f"is negative ({shown(value)})")
            self.require(value < 2**63, key, f"is {shown(value)}, more than 64 bits hold")
        return value

    def take_each(self, key: str, parse: Callable[[_Checked], Any]) -> list[Any]:
        items = self.take(key, list)
        return [parse(_Checked(item, self.path, f"{self.where + '.' if self.where else ''}{key}[{number}]"))
                for number, item in enumerate(items)]  # fmt: skip


def _parse_meta(value: Any, path: str | Path, task: str) -> TaskMeta:
    top = _Checked(value, path, "")
    version = top.take("format", int)
    top.require(version == FORMAT, "format", f"is {version}, this program reads {FORMAT}")
    top.require(top.take("task", str) == task, "task", f"is {shown(value['task'])}, not {task!r}")
    classes = top.take_each("classes", lambda item: ClassInfo(item.take("id", int), item.take("name", str)))
    ids = [item.id for item in classes]
    top.require(bool(ids), "classes", "is empty")
    top.require(ids == sorted(set(ids)), "classes", "is not in ascending order of distinct ids")
    counted = ids == list(range(len(ids)))
    top.require(task != "seg" or counted, "classes", "of seg do not count from 0 without holes")
    top.require(task != "seg" or len(ids) <= IGNORE_ID, "classes", f"of seg are {len(ids)}, more than {IGNORE_ID}")
    splits = {
        name: _parse_split(_Checked(item, path, f"splits.{name}"), name)
        for name, item in top.take("splits", dict).items()
    }
    top.require(bool(splits), "splits", "is empty")
    unknown = [name for name in splits if name not in SPLITS]
    top.require(not unknown, "splits", f"has {shown(unknown)}, not only {', '.join(SPLITS)}")
    return TaskMeta(task, top.take("layout", str), classes, _Splits(splits))


def _parse_split(item: _Checked, split: str) -> SplitMeta:
    meta = SplitMeta(
        labelled=item.take("labelled", bool),
        found=item.take("found", int),
        samples=item.take("samples", int),
        shards=item.take_each("shards", lambda shard: _parse_shard(shard, split)),
        rejected=item.take_each(
            "rejected", lambda it: Rejection(it.take("file", str), it.take("reason", str))
        ),
        unmatched=item.take_each(
            "unmatched", lambda it: Unmatched(it.take("entry", str), it.take("reason", str))
        ),
    )
    names = [shard.name for shard in meta.shards]
    item.require(len(set(names)) == len(names), "shards", "lists one shard twice")
    in_shards = sum(shard.samples for shard in meta.shards)
    item.require(in_shards == meta.samples, "samples", f"is {meta.samples}, the shards hold {in_shards}")
    accounted = meta.samples + len(meta.rejected)
    item.require(meta.found == accounted, "found", f"is {meta.found}, {accounted} are written or rejected")
    item.require(meta.samples > 0, "samples", "is 0")
    return meta


def _parse_shard(item: _Checked, split: str) -> ShardInfo:
    shard = ShardInfo(
        item.take("name", str), item.take("samples", int), item.take("bytes", int), item.take("sha256", str)
    )
    named = _SHARD_NAME.fullmatch(shard.name) and shard.name.startswith(f"{split}-")
    item.require(bool(named), "name", f"is {shown(shard.name)}, not {split}-000000.tar or the like")
    item.require(bool(_SHA256.fullmatch(shard.sha256)), "sha256", "is not 64 hex digits")
    item.require(shard.samples > 0, "samples", "is 0")
    return shard
