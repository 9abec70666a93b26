"""A split of shards on another machine: indexes at the start, whole shards when they are needed or a little before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ufo_ds.data.cache import GIB, ShardCache
from ufo_ds.data.fetching import Fetcher, fetch_bytes, fetch_shard
from ufo_ds.data.index import Member, parse_index
from ufo_ds.data.lookahead import MAX_STEPS, Prefetcher, coming_shards
from ufo_ds.data.progress import Progress
from ufo_ds.data.schema import ShardInfo, TaskMeta
from ufo_ds.data.shards import MAX_OPEN, ShardSet
from ufo_ds.errors import UserError
from ufo_ds.files import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from ufo_ds.data.folders import RemoteFolder

CONNECTIONS = 4
"""Files that a start fetches at a time."""
INDEX_BYTES = 4096
"""The most that a sample's line of the index takes."""
DRAWS_FROM_ALL = {"cls": "balanced", "det": "copy_paste"}
"""For a task the key of its config with which training draws from all shards at any time."""
EVALUATION_WINDOW = 2
"""Shards that reading in order needs at a time: that of the fastest reader, and of the slowest."""


class RemoteShards(ShardSet):
    """What both ways to read remote shards share; see `CachedShards` and `StreamedShards`.

    Args:
        folder: where the shards are.
        task: `cls`, `det` or `seg`.
        split: `train`, `val` or `test`.
        meta: the task's `meta.json`, if it has been read.

    Raises:
        UserError: as `ShardSet`; or a file cannot be fetched.
    """

    def __init__(self, folder: RemoteFolder, task: str, split: str, meta: TaskMeta | None = None) -> None:
        self.folder = folder
        self.fetcher: Fetcher = folder.fetcher
        self.cache: ShardCache | None = folder.cache
        self._window = EVALUATION_WINDOW
        self.max_open = EVALUATION_WINDOW
        self._prefetcher = Prefetcher()
        super().__init__(folder.place, task, split, meta or folder.read_meta(task))

    def look_ahead(self, number: int, samples_of: Callable[[int], Sequence[int]]) -> None:
        """Fetch what comes after batch `number`; a worker process makes every so manieth batch."""
        if set(self._shards_of(samples_of(number))) <= self._near:
            return
        from torch.utils.data import get_worker_info

        worker = get_worker_info()
        stride = worker.num_workers if worker else 1
        plan = self._coming(number, samples_of, 2 * self._window, stride)
        self._near = set(plan[: self._window])
        self._prefetcher.follow([partial(self._prefetch, shard, plan[:place]) for place, shard in enumerate(plan)])

    def close(self) -> None:
        """Close what is open, and fetch nothing more ahead."""
        self._prefetcher.follow([])
        self._near = set()
        super().close()

    def _reset(self) -> None:
        super()._reset()
        self._near: set[int] = set()

    def _coming(
        self, number: int, samples_of: Callable[[int], Sequence[int]], count: int, stride: int = 1
    ) -> list[int]:
        numbers = range(number, number + MAX_STEPS * stride, stride)
        return coming_shards(samples_of, self._shards_of, numbers, min(count, len(self.shards)))

    def _prefetch(self, shard: int, before: Sequence[int]) -> None:
        """Fetch a shard that will be needed after those `before`, which stay."""
        raise NotImplementedError

    def _place(self, shard: int) -> str:
        return self.fetcher.place(self._name(self.shards[shard]))

    def _name(self, info: ShardInfo) -> str:
        return f"{self.task}/{info.name}"

    # ---- indexes ----

    def _read_indexes(self) -> list[list[Member]]:
        progress = Progress(f"the indexes of {self.task} {self.split}", len(self.shards), "files")

        def read(info: ShardInfo) -> list[list[Member]]:
            samples = self._read_index(info)
            progress.add(1)
            return samples

        with _Connections() as pool:
            return [members for samples in pool.map(read, self.shards) for members in samples]

    def _read_index(self, info: ShardInfo) -> list[list[Member]]:
        name = f"{self.task}/{info.index_name}"
        kept = self.cache.read_index(info) if self.cache else None
        if kept is not None:
            with suppress(UserError):
                return self._parse_index(kept, info, name)
        limit = min(INDEX_BYTES * (info.samples + 1), MAX_TEXT_BYTES)
        data = fetch_bytes(self.fetcher, name, limit)
        try:
            samples = self._parse_index(data, info, name)
        except UserError:
            data = fetch_bytes(self.fetcher, name, limit)
            samples = self._parse_index(data, info, name)
        if self.cache:
            self.cache.write_index(info, data)
        return samples

    def _parse_index(self, data: bytes, info: ShardInfo, name: str) -> list[list[Member]]:
        place = self.fetcher.place(name)
        try:
            text = data.decode("ascii")
        except ValueError as error:
            raise UserError(f"{place}: cannot be read ({error}); run shards/build.py again") from None
        samples = parse_index(text, place)
        self._check_samples(samples, info, place)
        return samples


class CachedShards(RemoteShards):
    """Remote shards that are fetched whole into a folder of this machine, and read there as local ones are.

    As many shards stay open, and so in the cache, as the order reads at a time.
    """

    def keep(self, window: int | None) -> None:
        """As `ShardSet.keep`; without a window every shard is fetched now, for the first batches need nearly all.

        Raises:
            UserError: the cache takes less than that.
        """
        check_room([(self, window)])
        self._window = window or len(self.shards)
        self.max_open = min(self._window, MAX_OPEN)
        if window is None:
            self._fetch_now(range(len(self.shards)), "all shards, as classes are drawn from all of them")

    def begin(self, number: int, samples_of: Callable[[int], Sequence[int]]) -> None:
        """Fetch what the first batches need, before any reader waits for it."""
        if all(map(self.cache.holds, self.shards)):
            return
        self._fetch_now(self._coming(number, samples_of, self._window), "the first shards")

    def room(self, window: int | None) -> int:
        """Bytes of the cache that an order of this window needs."""
        sizes = sorted((info.bytes for info in self.shards), reverse=True)
        return sum(sizes[:window])

    def _open_file(self, shard: int) -> int:
        return self.cache.open(self.shards[shard], self._download(shard))

    def _check_header(self, shard: int, header: bytes, size: int) -> None:
        try:
            super()._check_header(shard, header, size)
        except UserError:
            self.cache.write_index(self.shards[shard], None)  # the shard is right: the next start asks for the index
            raise

    def _prefetch(self, shard: int, before: Sequence[int]) -> None:
        spare = {self.shards[other].sha256 for other in before}
        self.cache.fetch(self.shards[shard], self._download(shard), wait=False, spare=spare)

    def _download(self, shard: int, count: Callable[[int], None] = lambda _: None) -> Callable[[Callable], None]:
        info = self.shards[shard]
        return lambda write: fetch_shard(self.fetcher, self._name(info), info, write, count)

    def _fetch_now(self, shards: Sequence[int], what: str) -> None:
        missing = [shard for shard in shards if not self.cache.holds(self.shards[shard])]
        size = sum(self.shards[shard].bytes for shard in missing)
        progress = Progress(f"{self.task} {self.split}, {what}", size)
        if missing:
            progress.say(f"{size / 2**20:.1f} MiB in {len(missing)} file(s) to {self.cache.folder}")

        def bring(shard: int) -> None:
            counted = [0]

            def count(size: int) -> None:
                counted[0] += size
                progress.add(size)

            self.cache.fetch(self.shards[shard], self._download(shard, count))
            progress.add(max(0, self.shards[shard].bytes - counted[0]))  # another process has fetched it

        with _Connections() as pool:
            list(pool.map(bring, missing))


def check_room(orders: Sequence[tuple[ShardSet, int | None]]) -> None:
    """Does the cache take what orders of several splits read at a time? Windows as of `ShardSet.keep`.

    Raises:
        UserError: it does not; sizes and keys are named.
    """
    remote = [(shards, window) for shards, window in orders if isinstance(shards, CachedShards)]
    needs = [shards.room(window) for shards, window in remote]
    if not remote or sum(needs) <= remote[0][0].cache.limit:
        return
    parts = ", ".join(
        f"{shards.task} {'all' if window is None else min(window, len(shards.shards))} shards {need / GIB:.2f} GiB"
        for (shards, window), need in zip(remote, needs, strict=True)
    )
    keys = " and ".join(f"tasks.{shards.task}.{DRAWS_FROM_ALL[shards.task]}" for shards, w in remote if w is None)
    why = f"; all shards, as {keys} draws from everywhere" if keys else ""
    raise UserError(
        f"key 'data.cache_gib' is {remote[0][0].cache.limit / GIB:.4g}, but the order of the samples reads "
        f"{sum(needs) / GIB:.4g} GiB at a time ({parts}{why}); raise it, or lower data.window"
    )


class _Connections(ThreadPoolExecutor):
    """Threads that an error, or the user, does not wait for."""

    def __init__(self) -> None:
        super().__init__(CONNECTIONS)

    def __exit__(self, kind: type | None, *rest: object) -> None:
        self.shutdown(wait=kind is None, cancel_futures=True)
