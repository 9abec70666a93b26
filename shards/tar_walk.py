"""The members of a plain tar, header by header: names, places, sizes. Whatever is odd about the file is refused.

Python's `tarfile` ends silently at a damaged header and at a tar that was cut between two members; an index and a
verification must not.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ufo_ds.errors import UserError, shown

_BLOCK = 512
_CHUNK = 1 << 20
_MAX_EXTENDED = 1 << 20
"""Bytes of a pax header or of a long name; real ones have a few hundred."""
_COMPRESSED = {
    b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x04\x22\x4d\x18": "lz4",
}  # fmt: skip
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe",
          b"S": "a sparse file", b"M": "a part of another volume"}  # fmt: skip
_REFUSED_REMEDY = "pack the files themselves into a plain tar"
_BROKEN_REMEDY = "copy or write the tar again"


class Entry(NamedTuple):
    """A file in a tar: its name as it stands there, offset of the payload and size of it in bytes."""

    name: str
    offset: int
    size: int


def walk_tar(path: Path) -> list[Entry]:
    """The regular files of a tar in their order; folders are passed over.

    Raises:
        UserError: no tar, a compressed or damaged one, one that ends in the middle or goes on after its end; a
            member that is no file, or has an absolute name or one with `..`.
    """
    try:
        with path.open("rb") as file:
            return list(_walk(file, path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a tar that is there") from None


def _walk(file: BinaryIO, path: Path) -> Iterator[Entry]:
    length = os.fstat(file.fileno()).st_size
    _refuse_compressed(file.read(8), path)
    position, extended, dangling = 0, {}, False
    while True:
        file.seek(position)
        header = file.read(_BLOCK)
        if len(header) < _BLOCK:
            at = "is empty" if not length else f"ends at byte {length} without an end-of-archive mark: it was cut off"
            raise UserError(f"{path}: {at}; {_BROKEN_REMEDY}")
        if not any(header):
            if dangling:
                raise UserError(f"{path}: ends after an extended header, without its member; {_BROKEN_REMEDY}")
            _refuse_more(file, path)
            return
        info = _parse(header, position, path)
        payload = position + _BLOCK
        name, size = _name_and_size(info, extended, path)
        holds_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES or info.type in b"xgXLK"
        position = payload + (-(-size // _BLOCK) * _BLOCK if holds_data else 0)
        if position > length:
            where = f"ends at byte {length} in the middle of {shown(name, 100)}"
            raise UserError(f"{path}: {where}; {_BROKEN_REMEDY}")
        if info.type in (b"x", b"X", b"L", b"K", b"g"):
            if size > _MAX_EXTENDED:
                raise UserError(f"{path}: the extended header at byte {payload} has {size} bytes; {_BROKEN_REMEDY}")
            extended |= _extended(info.type, file.read(size), payload, path)
            dangling = True
            continue
        extended, dangling = {}, False
        if info.isdir():
            continue
        _check_member(info.type, name, path)
        yield Entry(name, payload, size)


def _parse(header: bytes, position: int, path: Path) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if not position:
            raise UserError(f"{path}: is not a tar ({error}); give uncompressed tars") from None
        problem = f"the header at byte {position} is damaged ({error})"
        raise UserError(f"{path}: {problem}; {_BROKEN_REMEDY}") from None
    if info.size < 0:
        raise UserError(f"{path}: the header at byte {position} has a negative size; {_BROKEN_REMEDY}")
    return info


def _name_and_size(info: tarfile.TarInfo, extended: dict[str, str], path: Path) -> tuple[str, int]:
    name, size = extended.get("path", info.name), extended.get("size", str(info.size))
    if "GNU.sparse.major" in extended or "GNU.sparse.size" in extended:
        raise UserError(f"{path}: {shown(name, 100)} is a sparse file; {_REFUSED_REMEDY}")
    if not (size.isascii() and size.isdecimal() and len(size) <= 18):
        raise UserError(f"{path}: {shown(name, 100)} has the size {shown(size)}; {_BROKEN_REMEDY}")
    return name, int(size)


def _extended(kind: bytes, data: bytes, offset: int, path: Path) -> dict[str, str]:
    """What a pax header or a GNU long name says of the member that follows (of a global one: nothing we need)."""
    if kind in b"LK":
        return {"path" if kind == b"L" else "linkpath": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    records: dict[str, str] = {}
    while data.strip(b"\0"):
        count, blank, rest = data.partition(b" ")
        length = int(count) if count.isdigit() and len(count) < 9 else 0
        record = rest[: length - len(count) - 1]
        if not blank or not record.endswith(b"\n") or b"=" not in record:
            raise UserError(f"{path}: the extended header at byte {offset} is damaged; {_BROKEN_REMEDY}")
        key, _, value = record[:-1].decode("utf-8", "surrogateescape").partition("=")
        records[key] = value
        data = data[length:]
    if kind != b"g":
        return records
    if odd := sorted(records.keys() & {"path", "size", "GNU.sparse.major", "GNU.sparse.size"}):
        problem = f"the global header at byte {offset} sets {odd[0]} for all members, which readers take differently"
        raise UserError(f"{path}: {problem}; {_REFUSED_REMEDY}")
    return {}


def _check_member(kind: bytes, name: str, path: Path) -> None:
    if kind not in (b"0", b"\0", b"7"):
        what = _KINDS.get(kind, f"a member of the unknown type {kind!r}")
        raise UserError(f"{path}: {shown(name, 100)} is {what}; {_REFUSED_REMEDY}")
    if name.startswith("/") or ".." in name.split("/"):
        problem = "has an absolute name" if name.startswith("/") else "has '..' in its name"
        raise UserError(f"{path}: {shown(name, 100)} {problem}; pack it again from within its folder")


def _refuse_compressed(start: bytes, path: Path) -> None:
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise UserError(f"{path}: is compressed ({name}), so nothing in it has a place; unpack it to a plain .tar")


def _refuse_more(file: BinaryIO, path: Path) -> None:
    """After the first zero block there may be zeros only: of two joined tars every reader sees the first alone."""
    while chunk := file.read(_CHUNK):
        if chunk.strip(b"\0"):
            problem = "goes on after its end-of-archive mark, where readers stop (tars joined with cat?)"
            raise UserError(f"{path}: {problem}; give each tar as a file of its own")
