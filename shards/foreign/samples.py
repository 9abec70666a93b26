"""One tar that somebody else wrote, read through: which of its samples are sound, and the tar's own figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shards.image_check import UnfitError
from shards.sample_check import Facts, arrange, examine_members
from shards.tar_samples import TarSamples, key_of
from ufo_ds.data.schema import Member, Rejection, label_extension
from ufo_ds.errors import UserError
from ufo_ds.files import sha256_of


@dataclass(frozen=True)
class SoundSample:
    """A sample that can be used, its image first."""

    members: list[Member]
    facts: Facts


@dataclass(frozen=True)
class Taken:
    """A tar that was read through.

    Attributes:
        tar: its path.
        name: as which it becomes a shard.
        bytes: its size.
        sha256: of it, in hex.
        sound: samples that can be used, in the tar's order.
        rejected: the others, named `<name>/<member>`.
    """

    tar: Path
    name: str
    bytes: int
    sha256: str
    sound: list[SoundSample]
    rejected: list[Rejection]


def examine_tar(job: tuple[tuple[str, Path, str], TarSamples], tick: Callable[[int], object]) -> Taken:
    """Decode every sample of a tar.

    Args:
        job: task, path of the tar, its name as a shard; and what it holds.
        tick: called with the number of samples dealt with since the last call.

    Raises:
        UserError: the tar cannot be read, or has a name within that the reader of shards cannot take apart.
    """
    (task, tar, name), listed = job
    sound: list[SoundSample] = []
    rejected: list[Rejection] = []
    try:
        with tar.open("rb") as file:
            for members in listed.samples:
                _check_key(tar, members[0].name)
                try:
                    facts = examine_members(task, file, members)
                    sound.append(SoundSample(arrange(task, members), facts))
                except UnfitError as reason:
                    rejected.append(Rejection(f"{name}/{members[0].name}", _explain(task, members, reason)))
                tick(1)
        return Taken(tar, name, tar.stat().st_size, sha256_of(tar), sound, rejected)
    except OSError as error:
        raise UserError(f"{tar}: cannot be read ({error.strerror}); copy it again") from None


def _check_key(tar: Path, name: str) -> None:
    # The reader of shards ends a key at the name's first dot, wherever that is.
    folder = key_of(name)
    if "." in folder:
        folder = folder.rpartition("/")[0]
        raise UserError(f"{tar}: {name}: the folder {folder} has a dot in its name; pack again without")


def _explain(task: str, members: list[Member], reason: UnfitError) -> str:
    there = [member.ext for member in members]
    if str(reason).startswith("has no .") and label_extension(task, there) not in there:
        return f"{reason} (only {', '.join(there)})"
    return str(reason)
