"""Command-line options that the shard tools have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from ufo_ds.data.schema import TASKS
from ufo_ds.errors import UserError


def natural(text: str) -> int:
    """An option's value that counts from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def positive(text: str) -> int:
    """An option's value that counts from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add `--workers`, by default as many as this process may use cores."""
    parser.add_argument(
        "--workers",
        type=positive,
        default=len(os.sched_getaffinity(0)),
        help="processes (default: one a core)",
    )


def task_names(text: str, option: str = "--tasks") -> tuple[str, ...]:
    """The value of an option that names tasks, in the order of `TASKS`. `UserError` where one is unknown."""
    named = {name.strip() for name in text.split(",")}
    if unknown := sorted(named - set(TASKS)):
        raise UserError(f"{option}: {unknown[0]!r} is no task, choose from {','.join(TASKS)}")
    return tuple(task for task in TASKS if task in named)


def named_values(texts: Iterable[str], option: str) -> dict[str, str]:
    """The values of an option that is given as `NAME=VALUE`, any number of times; `UserError` where one is not."""
    values: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise UserError(f"{option} {text}: write it as NAME=VALUE")
        if name in values:
            raise UserError(f"{option} {text}: {name} is given twice")
        values[name] = value
    return values
