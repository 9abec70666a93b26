"""The index beside a shard: where each payload stands, in the format of NVIDIA DALI's `wds2idx` (v1.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ufo_ds.errors import UserError, reason_of
from ufo_ds.files import read_text, replace_file

_VERSION = "v1.2"
_DIGITS = 18


class Member(NamedTuple):
    """A member of a tar.

    Attributes:
        ext: extension as spelled, without the dot (`jpg`, `JPG`).
        offset: of the payload from the start of the tar, bytes.
        size: of the payload, bytes.
        name: of the member in the tar (`<key>.<ext>`).
    """

    ext: str
    offset: int
    size: int
    name: str


def write_index(path: str | Path, samples: Sequence[Sequence[Member]]) -> None:
    """Write the index of a shard atomically: its samples in order, each as its members in order."""
    lines = [f"{_VERSION} {len(samples)}"]
    lines += [" ".join(f"{m.ext} {m.offset} {m.size} {m.name}" for m in members) for members in samples]
    replace_file(Path(path), "\n".join(lines) + "\n")


def read_index(path: str | Path) -> list[list[Member]]:
    """The samples of a shard in order, each as its members in order.

    Raises:
        UserError: the file is absent or not a whole index of that version; file and line are named.
    """
    try:
        text = read_text(path, "ascii")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason_of(error)}); run shards/build.py again") from None
    return parse_index(text, path)


def parse_index(text: str, path: str | Path) -> list[list[Member]]:
    """As `read_index`, of a text; messages name it by `path`."""
    lines = text.splitlines()
    version, _, count = lines[0].partition(" ") if lines else ("", "", "")
    if version != _VERSION or not _is_number(count):
        raise UserError(f"{path}:1: not an index of version {_VERSION}; run shards/build.py again")
    if int(count) != len(lines) - 1:
        raise UserError(f"{path}: {len(lines) - 1} samples, {count} announced; run shards/build.py again")
    return list(_parse_lines(path, lines[1:]))


def _parse_lines(path: str | Path, lines: Iterable[str]) -> Iterable[list[Member]]:
    for number, line in enumerate(lines, start=2):
        fields = line.split(" ")
        groups = [fields[i : i + 4] for i in range(0, len(fields), 4)]
        if not all(len(group) == 4 and _is_number(group[1]) and _is_number(group[2]) for group in groups):
            problem = "not '<ext> <offset> <size> <name>' for each member"
            raise UserError(f"{path}:{number}: {problem}; run shards/build.py again")
        yield [Member(ext, int(offset), int(size), name) for ext, offset, size, name in groups]


def _is_number(text: str) -> bool:
    """Digits that fit 64 bits; Python itself refuses thousands of them with an error of its own."""
    return text.isdecimal() and len(text) <= _DIGITS
