"""The tasks by name. A fourth task is a fourth folder and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ufo_ds.tasks.task import Task

FOLDERS = {"cls": "classification", "det": "detection", "seg": "segmentation"}


def get_task(name: str) -> Task:
    """The task of that name. Imported late: scoring needs no torch."""
    return import_module(f"ufo_ds.tasks.{FOLDERS[name]}.task").TASK
