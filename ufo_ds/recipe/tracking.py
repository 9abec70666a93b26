"""Where a run is told of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class TrackingConfig:
    """Weights & Biases; the local log and the report are always written."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto`: online where a key is set, else offline."""
    project: str = "ufo-ds"
    """wandb project."""
    name: str | None = None
    """wandb run name; null: the run folder's name."""
