"""Tars that others wrote: an index beside each, or a split of a task with links, indexes and `meta.json`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from shards.folder import locked
from shards.foreign.classes import ClassSource, choose_classes
from shards.foreign.samples import Taken, examine_tar
from shards.pool import run_jobs
from shards.tar_samples import read_tar_samples
from ufo_ds.data.schema import META_NAME, SPLITS, Rejection, ShardInfo, SplitMeta, TaskMeta, write_index
from ufo_ds.errors import UserError, printable

LAYOUT = "webdataset"
"""`layout` of the `meta.json` of such tars."""
_SHOWN = 5


@dataclass(frozen=True)
class TakeIn:
    """As what tars are taken in; `out` None means the folder above the one that they stand in."""

    task: str
    split: str
    out: Path | None
    classes: Path | None
    workers: int


def find_tars(given: list[Path], split: str | None) -> list[Path]:
    """The tars that are given, folders replaced by their *.tar in the order of their names.

    Of a folder with shards of several splits only those of `split` are taken, and the rest is named.

    Raises:
        UserError: something is not there, a folder has no tar, or a tar is given twice.
    """
    tars: list[Path] = []
    for path in given:
        if path.is_dir():
            there = sorted(path.glob("*.tar"))
            if not there:
                hint = ": give one of its folders" if any(path.glob("*/*.tar")) else ""
                raise UserError(f"{path}: no *.tar in it{hint or '; give a folder of tars'}")
            if odd := next((tar for tar in there if not tar.is_file()), None):
                raise UserError(f"{odd}: is not a regular file; move it away, or give the tars by name")
            tars += _of_split(path, there, split)
        elif path.is_file():
            tars.append(path)
        else:
            problem = "is not a regular file" if path.exists() else "no such file or folder"
            raise UserError(f"{path}: {problem}; give tars or folders of tars")
    seen: set[Path] = set()
    for tar in tars:
        if tar.resolve() in seen:
            raise UserError(f"{tar}: given twice; give each tar once")
        seen.add(tar.resolve())
    return tars


def _of_split(folder: Path, tars: list[Path], split: str | None) -> list[Path]:
    if split is None or not any(tar.name.startswith(f"{name}-") for tar in tars for name in SPLITS):
        return tars
    taken = [tar for tar in tars if tar.name.startswith(f"{split}-")]
    if not taken:
        raise UserError(f"{folder}: has shards of other splits, but no {split}-*.tar; give the {split} tars by name")
    if len(taken) < len(tars):
        print(f"note: {folder}: {len(taken)} {split}-*.tar taken, {len(tars) - len(taken)} other tars left alone")
    return taken


def index_beside(tars: list[Path]) -> None:
    """Write `<tar's stem>.idx` beside each tar, all of its samples in order; none if one tar is refused.

    Raises:
        UserError: as `read_tar_samples`, or an index cannot be written.
    """
    listed = [(tar, read_tar_samples(tar)) for tar in tars]
    for tar, found in listed:
        write_index(tar.with_suffix(".idx"), found.samples)
        left = f", {len(found.skipped)} files of no sample passed over" if found.skipped else ""
        print(f"{tar.with_suffix('.idx')}: {len(found.samples)} samples{left}")


def take_in(tars: list[Path], options: TakeIn) -> TaskMeta:
    """Check every sample and make the tars a split that `open_shards` reads.

    Raises:
        UserError: a tar is refused, no sample is sound, the classes or the folder's other splits contradict.
    """
    out = options.out or _folder_above(tars, options)
    kept = _kept_meta(out, options)
    given = ClassSource.read(options.classes, options.task) if options.classes else None
    numbered = [(options.task, tar, f"{options.split}-{number:06d}.tar") for number, tar in enumerate(tars)]
    listed = [read_tar_samples(tar) for tar in tars]
    jobs = [(job, found) for job, found in zip(numbered, listed, strict=True)]
    total = sum(len(found.samples) for found in listed)
    taken = run_jobs(examine_tar, jobs, options.workers if total >= 2000 else 1, total, "checking")
    if not any(part.sound for part in taken):
        rejected = [item for part in taken for item in part.rejected]
        raise UserError(f"{tars[0]}: {_nothing(rejected, options.task)}; no {options.task}/{META_NAME} is written")
    labelled = options.split != "test" or any(item.facts.labelled for part in taken for item in part.sound)
    classes, note = choose_classes(options.task, given, kept, taken)
    known = frozenset(item.id for item in classes)
    rejected = _reject(taken, known, labelled, options.split)
    split = _split_meta(taken, rejected, labelled)
    if not split.samples:
        raise UserError(f"{tars[0]}: {_nothing(rejected, options.task)}; no {options.task}/{META_NAME} is written")
    splits = {**(kept.splits if kept else {}), options.split: split}
    meta = TaskMeta(options.task, LAYOUT, classes, {name: splits[name] for name in SPLITS if name in splits})
    try:
        with locked(out):
            _write(out, tars, taken, meta, options)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written ({error.strerror}); mend that or choose another "
                        "--out") from None  # fmt: skip
    _report(meta, options, out, note)
    return meta


# ---- folders ----


def _folder_above(tars: list[Path], options: TakeIn) -> Path:
    parents = {tar.absolute().parent for tar in tars}
    named = all(tar.name == f"{options.split}-{number:06d}.tar" for number, tar in enumerate(tars))
    if len(parents) == 1 and named and (folder := parents.pop()).name == options.task:
        return folder.parent
    example = f"{options.task}/{options.split}-000000.tar"
    raise UserError(f"{tars[0]}: does not stand in a folder as {example}, ...; give --out DIR for the links to it")


def _kept_meta(out: Path, options: TakeIn) -> TaskMeta | None:
    """What an earlier run wrote for other splits; a folder of another maker is left alone."""
    path = out / options.task / META_NAME
    if not path.exists():
        return None
    meta = TaskMeta.read(out, options.task)
    if meta.layout != LAYOUT:
        raise UserError(f"{path}: was written by shards/build.py from the layout {meta.layout}; choose another --out")
    return meta if meta.splits.keys() - {options.split} else None


def _write(out: Path, tars: list[Path], taken: list[Taken], meta: TaskMeta, options: TakeIn) -> None:
    """Links, then indexes, then `meta.json`, which vouches for them."""
    folder = out / options.task
    folder.mkdir(parents=True, exist_ok=True)
    names = [info.name for info in meta.splits[options.split].shards]
    for name, tar in zip(names, tars, strict=True):
        link = folder / name
        if link.exists() and not link.is_symlink() and not link.samefile(tar):
            raise UserError(f"{link}: is another tar; choose another --out, or move it away")
    for name, tar, part in zip(names, tars, taken, strict=True):
        link = folder / name
        if not (link.exists() and not link.is_symlink()):
            _link(link, tar)
        write_index(link.with_suffix(".idx"), [item.members for item in part.sound])
    for link in folder.glob(f"{options.split}-*.tar"):  # of an earlier run with more tars
        if link.is_symlink() and link.name not in names and re.fullmatch(r"[a-z]+-\d{6}\.tar", link.name):
            link.with_suffix(".idx").unlink(missing_ok=True)
            link.unlink()
    meta.write(out)


def _link(link: Path, tar: Path) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    # Relative: folder and tars can be moved together. Both ends resolved, for `..` is taken after the links.
    temporary.symlink_to(os.path.relpath(tar.resolve(), link.parent.resolve()))
    os.replace(temporary, link)


# ---- the split ----


def _reject(taken: list[Taken], known: frozenset[int], labelled: bool, split: str) -> list[Rejection]:
    """Move what does not fit the whole from `sound` to the rejected; returns all of these."""
    rejected: list[Rejection] = []
    image_ids: dict[int, str] = {}
    for part in taken:
        sound = []
        for item in part.sound:
            facts, reason = item.facts, ""
            if labelled and not facts.labelled:
                reason = f"has no label, which {'the others of ' if split == 'test' else ''}{split} must have"
            elif foreign := [str(i) for i in facts.class_ids if i not in known]:
                reason = f"class {', '.join(foreign[:8])} is none of the classes"
            elif facts.image_id in image_ids:
                reason = f"has the image_id {facts.image_id} of {image_ids[facts.image_id]}"
            if reason:
                rejected.append(Rejection(f"{part.name}/{item.members[0].name}", reason))
                continue
            if facts.image_id is not None:
                image_ids[facts.image_id] = f"{part.name}/{item.members[0].name}"
            sound.append(item)
        part.sound[:] = sound
        rejected += part.rejected
    return sorted(rejected, key=lambda item: item.file)


def _split_meta(taken: list[Taken], rejected: list[Rejection], labelled: bool) -> SplitMeta:
    empty = [part for part in taken if not part.sound]
    if empty and len(empty) < len(taken):
        # Shards are numbered without holes, and what is rejected is named by its shard.
        why = next(item.reason for item in rejected if item.file.startswith(f"{empty[0].name}/"))
        raise UserError(f"{empty[0].tar}: none of its samples can be used (the first: {why}); leave this tar out")
    shards = [ShardInfo(part.name, len(part.sound), part.bytes, part.sha256) for part in taken if part.sound]
    samples = sum(shard.samples for shard in shards)
    return SplitMeta(labelled, samples + len(rejected), samples, shards, rejected, [])


def _nothing(rejected: list[Rejection], task: str) -> str:
    first, problem = rejected[0], f"none of the {len(rejected)} samples can be used for {task}"
    return f"{problem} (the first: {printable(first.file)}: {first.reason})"


def _report(meta: TaskMeta, options: TakeIn, out: Path, note: str) -> None:
    split = meta.splits[options.split]
    print(f"note: {note}")
    for item in split.rejected[:_SHOWN]:
        print(printable(f"rejected   {meta.task} {options.split}: {item.file}: {item.reason}"))
    shards = len(split.shards)
    counts = f"{split.samples} of {split.found} samples in {shards} shard{'s' if shards > 1 else ''}"
    label = "" if split.labelled else ", without labels"
    print(f"{out / meta.task / META_NAME}: {options.split}: {counts}{label}, {len(split.rejected)} rejected")
