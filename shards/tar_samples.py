"""The samples of a WebDataset tar, grouped as `webdataset` and DALI's `wds2idx` group them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shards.tar_walk import walk_tar
from ufo_ds.data.schema import Member
from ufo_ds.errors import UserError, shown

_META = re.compile(r"__[^/]*__($|/)")
"""WebDataset's own entries, which it passes over."""


@dataclass(frozen=True)
class TarSamples:
    """What a tar holds.

    Attributes:
        samples: in the order of the tar, each as its members in their order. A leading `./` of a name is dropped.
        skipped: names of files that belong to no sample: hidden ones, those without extension, WebDataset's own.
    """

    samples: list[list[Member]]
    skipped: list[str]


def key_of(name: str) -> str:
    """The part of a member's name up to the first dot of its last component."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def read_tar_samples(path: Path) -> TarSamples:
    """List the samples of a tar by its headers.

    Raises:
        UserError: as `walk_tar`; no sample at all, a member twice (also in another case: `a.jpg`, `a.JPG`), the
            members of a sample not next to one another, a name that the index cannot spell.
    """
    samples: list[list[Member]] = []
    skipped: list[str] = []
    begun: set[str] = set()
    names: set[str] = set()
    last = None
    for entry in walk_tar(path):
        name = re.sub(r"^(\./)+", "", entry.name)
        key = key_of(name)
        extension = name[len(key) + 1 :]
        if not extension or not key or key.endswith("/") or _META.match(name):
            skipped.append(name)
            continue
        if not name.isascii() or not name.isprintable() or " " in name:
            problem = "has a blank or a character beyond ASCII in its name, which an index cannot spell"
            raise UserError(f"{path}: {shown(name, 100)} {problem}; rename it, e.g. percent-encoded, and pack again")
        full = f"{key}.{extension.lower()}"
        if full in names:
            raise UserError(f"{path}: {name} is there twice; give every member a name of its own and pack again")
        names.add(full)
        if key != last:
            if key in begun:
                problem = f"the members of {key} do not follow one another"
                raise UserError(f"{path}: {problem}; pack again with the files sorted (tar --sort=name)")
            begun.add(key)
            samples.append([])
            last = key
        samples[-1].append(Member(extension, entry.offset, entry.size, name))
    if not samples:
        raise UserError(f"{path}: holds no sample (files named key.extension); give tars in WebDataset's manner")
    return TarSamples(samples, skipped)
