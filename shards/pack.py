"""Writing one shard: checked samples -> tar, index and a note of what was done. Runs in worker processes."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from shards.image_check import UnfitError, check_boxes, check_image, check_mask, read_source
from shards.layouts import Boxes, CodedMask, RelativeBoxes, Sample, Source
from shards.mask_codes import decoded_mask
from shards.plan import ShardPlan
from ufo_ds.data.schema import Member, Rejection, ShardInfo, escape_stem, label_extension, write_index
from ufo_ds.errors import UserError
from ufo_ds.files import replace_file, sha256_of

_BLOCK = 512
_RECORD = 20 * _BLOCK
"""Tar files end with two zero blocks and are padded to whole records, as `tar` itself does."""


@dataclass
class ShardResult:
    """What became of a `ShardPlan`.

    Attributes:
        fingerprint: of the plan.
        info: of the tar; None where every sample was rejected, and no file was written.
        index_sha256: of the index, "" likewise.
        rejected: samples that were not written.
    """

    fingerprint: str
    info: ShardInfo | None
    index_sha256: str
    rejected: list[Rejection]

    @classmethod
    def parse(cls, text: str, name: str) -> ShardResult:
        """Reverse of `text`; `ValueError`, `KeyError` or `TypeError` where it is not that of the shard `name`."""
        value = json.loads(text)
        info = ShardInfo(**value["info"]) if value["info"] else None
        rejected = [Rejection(**item) for item in value["rejected"]]
        texts = [value["fingerprint"], value["index_sha256"]]
        texts += [item for rejection in rejected for item in (rejection.file, rejection.reason)]
        if info:
            texts += [info.name, info.sha256]
        if not all(isinstance(item, str) for item in texts) or (info and info.name != name):
            raise ValueError(f"not the note of {name}")
        if info and not all(type(count) is int and count > 0 for count in (info.samples, info.bytes)):
            raise ValueError(f"impossible counts of {name}")
        return cls(value["fingerprint"], info, value["index_sha256"], rejected)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def state_path(folder: Path, name: str) -> Path:
    """Where a finished shard's `ShardResult` stands while the build goes on."""
    return folder / f".{name}.state"


def make_shard(job: tuple[ShardPlan, ShardResult | None], tick: Callable[[int], object]) -> ShardResult:
    """Write a shard, or find it finished by an earlier run.

    Args:
        job: what it is to hold, and what an earlier run noted of a shard of that name.
        tick: called with the number of samples dealt with since the last call.
    """
    plan, known = job
    if known and known.fingerprint == plan.fingerprint and _is_whole(plan.folder, known):
        tick(len(plan.samples))
        return known
    try:
        return _write_shard(plan, tick)
    except OSError as error:
        path = plan.folder / plan.name
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room or mend the rights") from None


def _is_whole(folder: Path, result: ShardResult) -> bool:
    if result.info is None:
        return True
    try:
        return (
            sha256_of(folder / result.info.name) == result.info.sha256
            and sha256_of(folder / result.info.index_name) == result.index_sha256
        )
    except OSError:
        return False


def _write_shard(plan: ShardPlan, tick: Callable[[int], object]) -> ShardResult:
    """Tar first, then index, then note: the note vouches for both."""
    path, note = plan.folder / plan.name, state_path(plan.folder, plan.name)
    note.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            samples, rejected, info = _fill(file, plan, tick)
            file.flush()
            os.fsync(file.fileno())
        if info is None:
            return ShardResult(plan.fingerprint, None, "", rejected)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    index = path.with_name(info.index_name)
    write_index(index, samples)
    result = ShardResult(plan.fingerprint, info, sha256_of(index), rejected)
    replace_file(note, result.text())
    return result


Filled = tuple[list[list[Member]], list[Rejection], ShardInfo | None]


def _fill(file: BinaryIO, plan: ShardPlan, tick: Callable[[int], object]) -> Filled:
    """Write the tar's bytes; returns the samples written, those rejected, and the shard's figures."""
    writer = TarWriter(file)
    samples: list[list[Member]] = []
    rejected: list[Rejection] = []
    for sample in plan.samples:
        try:
            payloads = sample_payloads(sample, plan.class_count)
            samples.append([writer.add(name, payload) for name, payload in payloads])
        except UnfitError as reason:
            rejected.append(Rejection(sample.file_name, str(reason)))
        tick(1)
    writer.finish()
    info = ShardInfo(plan.name, len(samples), writer.position, writer.digest.hexdigest())
    return samples, rejected, info if samples else None


def sample_payloads(sample: Sample, class_count: int) -> list[tuple[str, bytes]]:
    """The members of a sample as (name, payload), the image first.

    Raises:
        UnfitError: image or label are not sound; the reason.
    """
    image = read_source(sample.image)
    size = check_image(image)
    suffix = Path(sample.file_name).suffix
    key = escape_stem(sample.file_name.removesuffix(suffix))
    members = [(key + suffix, image)]
    if isinstance(sample.label, Boxes):
        boxes = _in_pixels(sample.label, size) if isinstance(sample.label, RelativeBoxes) else sample.label
        check_boxes(boxes, *size)
        members.append((f"{key}.json", _boxes_json(sample, boxes, size)))
    elif isinstance(sample.label, Source | CodedMask):
        mask = _mask_bytes(sample.label, size, class_count)
        members.append((f"{key}.{label_extension('seg', [suffix[1:].lower()])}", mask))
    elif sample.label is not None:
        members.append((f"{key}.cls", str(sample.label).encode("ascii")))
    return members


def _mask_bytes(label: Source | CodedMask, size: tuple[int, int], class_count: int) -> bytes:
    """A mask file as it is, or written anew where its pixels are not their class ids."""
    source = label.source if isinstance(label, CodedMask) else label
    mask = read_source(source)
    if isinstance(label, CodedMask):
        mask = decoded_mask(mask, source.path.name, label)
    check_mask(mask, source.path.name, size, class_count)
    return mask


def _in_pixels(boxes: RelativeBoxes, size: tuple[int, int]) -> Boxes:
    """Boxes of an image of `size` (width, height)."""
    annotations = None
    if boxes.annotations is not None:
        annotations = []
        for item in boxes.annotations:
            bbox = [share * side for share, side in zip(item["bbox"], size * 2, strict=True)]
            annotations.append({**item, "bbox": bbox, "area": bbox[2] * bbox[3]})
    return Boxes(boxes.image_id, *size, annotations=annotations, annotation_names=boxes.annotation_names)


def _boxes_json(sample: Sample, boxes: Boxes, size: tuple[int, int]) -> bytes:
    value = {"image_id": boxes.image_id, "file_name": sample.file_name, "width": size[0], "height": size[1]}
    if boxes.annotations is not None:
        value["annotations"] = boxes.annotations
    return json.dumps(value, separators=(",", ":")).encode("ascii")


class TarWriter:
    """An uncompressed ustar/pax tar whose bytes depend on names and payloads alone.

    Attributes:
        position: bytes written so far.
        digest: SHA-256 of them.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.position = 0
        self.digest = hashlib.sha256()

    def add(self, name: str, payload: bytes) -> Member:
        """Append a member; returns where it stands."""
        info = tarfile.TarInfo(name)  # owner 0, time 0, mode 0644
        info.size = len(payload)
        self._write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        member = Member(name.partition(".")[2], self.position, len(payload), name)
        self._write(payload)
        self._pad(_BLOCK)
        return member

    def finish(self) -> None:
        """Write the end of the archive."""
        self._write(bytes(2 * _BLOCK))
        self._pad(_RECORD)

    def _pad(self, unit: int) -> None:
        self._write(bytes(-self.position % unit))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.digest.update(data)
        self.position += len(data)
