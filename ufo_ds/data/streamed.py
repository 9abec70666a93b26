"""Remote shards without a disk: the shards of a window in memory, undecoded, through webdataset."""

from __future__ import annotations

import io
import tarfile
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence

from ufo_ds.data.fetching import fetch_shard
from ufo_ds.data.remote import DRAWS_FROM_ALL, RemoteShards
from ufo_ds.data.schema import RawSample, file_name_of
from ufo_ds.errors import UserError


class StreamedShards(RemoteShards):
    """Remote shards that each reading process fetches for itself and holds in memory while their window lasts.

    webdataset takes the tars apart; which sample comes when is known from the indexes alone, so that nothing
    is decoded but what a batch takes. At most two windows are held: the one that is read and the one that comes.
    """

    _own = (*RemoteShards._own, "_held", "_changing", "_loading")

    def keep(self, window: int | None) -> None:
        """As `ShardSet.keep`.

        Raises:
            UserError: no window: every sample may come at any time, which needs the cache.
        """
        if window is None:
            problem = "draws from all shards at any time, which a stream cannot"
            key = f"tasks.{self.task}.{DRAWS_FROM_ALL[self.task]}"
            raise UserError(f"key '{key}' {problem}; switch it off, or set data.remote to cache")
        self._window = window

    def __getitem__(self, index: int) -> RawSample:
        """Sample `index`, undecoded; as `ShardSet`."""
        shard = self._shard_of(index)
        return RawSample(self.file_names[index], self._hold(shard)[index])

    def read_member(self, index: int, ext: str) -> bytes:
        """One member of a sample; as `ShardSet`."""
        self._require_member(index, ext)
        return self[index].members[ext]

    def close(self) -> None:
        """Forget what is held."""
        super().close()
        with self._changing:
            self._held.clear()

    def _reset(self) -> None:
        super()._reset()
        self._held: OrderedDict[int, dict[int, dict[str, bytes]]] = OrderedDict()
        self._changing = threading.Lock()
        self._loading: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)

    def _prefetch(self, shard: int, before: Sequence[int]) -> None:
        self._hold(shard)

    def _hold(self, shard: int) -> dict[int, dict[str, bytes]]:
        """The samples of a shard by number. Of two threads that ask, one fetches."""
        with self._changing:
            loading = self._loading[shard]
        with loading:
            with self._changing:
                if shard in self._held:
                    self._held.move_to_end(shard)
                    return self._held[shard]
            samples = self._fetch(shard)
            with self._changing:
                self._held[shard] = samples
                while len(self._held) > 2 * self._window:
                    self._held.popitem(last=False)
            return samples

    def _fetch(self, shard: int) -> dict[int, dict[str, bytes]]:
        info, tar = self.shards[shard], io.BytesIO()

        def write(offset: int, data: bytes) -> None:
            tar.seek(offset)
            tar.write(data)

        fetch_shard(self.fetcher, self._name(info), info, write, lambda _: None)
        first = int(self._ends[shard]) - info.samples
        numbers = {self.file_names[index]: index for index in range(first, first + info.samples)}
        found = {}
        for key, members in _samples(tar, self._place(shard)):
            names = [file_name_of(f"{key}.{ext}") for ext in members]
            index = next((numbers[name] for name in names if name in numbers), None)
            if index is not None and index not in found:
                found[index] = self._ordered(index, {ext.lower(): data for ext, data in members.items()}, shard)
        if len(found) != info.samples:
            raise self._not_described(shard)
        return found

    def _ordered(self, index: int, members: dict[str, bytes], shard: int) -> dict[str, bytes]:
        """The members that the index names, in its order; their sizes must be the index's, too."""
        sizes = self._places[self._first[index] : self._first[index + 1], 1].tolist()
        for ext, size in zip(self._extensions[index], sizes, strict=True):
            if len(members.get(ext, b"")) != size:
                raise self._not_described(shard)
        return {ext: members[ext] for ext in self._extensions[index]}


def _samples(tar: io.BytesIO, place: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members of each sample of a tar, as webdataset groups them."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    tar.seek(0)
    try:
        # webdataset would unpack a compressed tar, however large it grows.
        tarfile.TarInfo.frombuf(tar.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        tar.seek(0)
        for sample in group_by_keys(tar_file_expander([{"url": place, "stream": tar}]), lcase=False):
            yield sample["__key__"], {ext: data for ext, data in sample.items() if not ext.startswith("__")}
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"{place}: is no plain tar ({str(error)[:80]}); run shards/build.py again") from None
