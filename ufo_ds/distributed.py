"""Ranks: where this process stands, and exchange of small objects. Knows torch.distributed, not DeepSpeed."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from ufo_ds.errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int
    world: int
    local_rank: int
    local_world: int

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the one that writes and speaks."""
        return self.rank == 0


def find_ranks() -> Ranks:
    """Ranks from the launcher's environment (deepspeed, torchrun), or a world of one where there is none.

    A plain `python` start gets the environment of a one-process launch, on a free port of this machine.
    """
    if "RANK" not in os.environ:
        os.environ.update(
            RANK="0",
            WORLD_SIZE="1",
            LOCAL_RANK="0",
            LOCAL_WORLD_SIZE="1",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(_free_port()),
        )
    value = {
        key: int(os.environ.get(key, default)) for key, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    }
    local_world = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or value["WORLD_SIZE"]
    return Ranks(value["RANK"], value["WORLD_SIZE"], value["LOCAL_RANK"], int(local_world))


def find_device(ranks: Ranks) -> torch.device:
    """This rank's GPU where there is one (and `DS_ACCELERATOR` is not `cpu`), else the CPU."""
    if torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu":
        torch.cuda.set_device(ranks.local_rank)
        return torch.device("cuda", ranks.local_rank)
    return torch.device("cpu")


def limit_threads(ranks: Ranks, threads: int | None) -> int:
    """Set the CPU threads of this rank: the cores shared out fairly unless told. Returns the number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = threads or max(1, cores // ranks.local_world)
    torch.set_num_threads(chosen)
    return chosen


def start_gloo(ranks: Ranks) -> None:
    """A plain process group over CPU sockets, for work without DeepSpeed (prediction)."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", rank=ranks.rank, world_size=ranks.world)


def stop() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class ObjectExchange:
    """Exchange of picklable objects over the CPU, whatever the backend of the tensors' group."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.group = dist.new_group(backend="gloo") if ranks.world > 1 else None

    def gather(self, value: Any) -> list[Any] | None:
        """Every rank's value, by rank, on rank 0; None elsewhere."""
        if self.group is None:
            return [value]
        values = [None] * self.ranks.world if self.ranks.first else None
        dist.gather_object(value, values, dst=0, group=self.group)
        return values

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.group is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def require_same(self, value: Any, what: str) -> None:
        """Stop where a rank has another value than the others. Raises `UserError`, on every rank."""
        values = self.gather(value)
        if not self.broadcast(values is None or all(other == values[0] for other in values)):
            raise UserError(f"{what} differ between the ranks; give all machines the same, and start again")

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.group is not None:
            dist.barrier(group=self.group)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
