"""Samples come back byte for byte, from any process; what does not belong together is a line that says so."""

import os
import pickle
import shutil

import pytest
import webdataset

from ufo_ds.data import shards as shards_module
from ufo_ds.data.shards import ShardSet, open_shards
from ufo_ds.errors import UserError


def sample(number, label=b"1"):
    return [(f"img%2E{number:03d}.jpg", bytes([number % 251]) * (50 + number)), (f"img%2E{number:03d}.cls", label)]


@pytest.fixture
def root(write_shards):
    return write_shards("cls", {"train": [[sample(10 * s + i) for i in range(4)] for s in range(3)]})


def test_samples_are_those_of_the_tars_in_order(root):
    shards = ShardSet(root, "cls", "train")
    urls = [str(path) for path in sorted((root / "cls").glob("*.tar"))]
    stock = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert len(shards) == 12 == len(stock) and shards.shard_sizes == [4, 4, 4]
    for raw, expected, name in zip(map(shards.__getitem__, range(12)), stock, shards.file_names, strict=True):
        assert raw.members == {"jpg": expected["jpg"], "cls": expected["cls"]}
        assert raw.file_name == name == expected["__key__"].replace("%2E", ".") + ".jpg"
        assert next(iter(raw.members)) == "jpg"
    assert shards.read_member(5, "cls") == b"1"
    assert shards.path_of(4).name == "train-000001.tar"


def test_extensions_are_found_in_lower_case_and_named_as_spelled(write_shards):
    shards = ShardSet(write_shards("cls", {"train": [[[("a.JPG", b"x"), ("a.cls", b"0")]]]}), "cls", "train")
    assert shards[0].members == {"jpg": b"x", "cls": b"0"} and shards.file_names == ["a.JPG"]


def test_numbers_outside_the_split_are_index_errors(root):
    shards = ShardSet(root, "cls", "train")
    for index in (-1, 12):
        with pytest.raises(IndexError):
            shards[index]


def test_a_pickle_holds_no_descriptors_and_reads_the_same(root):
    shards = ShardSet(root, "cls", "train")
    first = shards[0]
    copy = pickle.loads(pickle.dumps(shards))
    assert shards._descriptors and not copy._descriptors
    assert copy[0] == first and copy[11] == shards[11]


def test_forked_processes_read_through_each_other(root):
    shards = ShardSet(root, "cls", "train")
    expected = [shards[i] for i in range(12)]
    child = os.fork()
    if child == 0:
        good = all(shards[i % 12] == expected[i % 12] for i in range(600))
        shards.close()
        os._exit(0 if good else 1)
    assert all(shards[i % 12] == expected[i % 12] for i in reversed(range(600)))
    assert os.waitpid(child, 0)[1] == 0
    assert shards[3] == expected[3]


def test_open_files_are_bounded(root, monkeypatch):
    monkeypatch.setattr(shards_module, "MAX_OPEN", 2)
    before = len(os.listdir("/proc/self/fd"))
    shards = ShardSet(root, "cls", "train")
    for index in (0, 4, 8, 0, 4, 8):
        shards[index]
        assert len(os.listdir("/proc/self/fd")) <= before + 2
    shards.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert shards[0].members["cls"] == b"1"


def drop_shard(folder):
    (folder / "train-000001.tar").unlink()


def truncate_shard(folder):
    os.truncate(folder / "train-000001.tar", 2048)


def drop_index(folder):
    (folder / "train-000001.idx").unlink()


def spoil_index(folder):
    (folder / "train-000001.idx").write_text("v1.2 4\nnonsense\n\n\n\n")


def shorten_index(folder):
    lines = (folder / "train-000001.idx").read_text().splitlines()
    (folder / "train-000001.idx").write_text("\n".join(["v1.2 3", *lines[1:4]]) + "\n")


def overrun_index(folder):
    index = folder / "train-000001.idx"
    index.write_text(index.read_text().replace("cls ", "cls 9999", 1))


@pytest.mark.parametrize(
    ("damage", "file", "what"),
    [
        (drop_shard, "train-000001.tar", "cannot be read"),
        (truncate_shard, "train-000001.tar", "2048 bytes"),
        (drop_index, "train-000001.idx", "cannot be read"),
        (spoil_index, "train-000001.idx", ":2:"),
        (shorten_index, "train-000001.idx", "3 samples"),
        (overrun_index, "train-000001.idx:2", "outside the shard"),
    ],
)
def test_damage_is_one_line_that_names_the_file_and_the_remedy(root, damage, file, what):
    damage(root / "cls")
    with pytest.raises(UserError) as error:
        ShardSet(root, "cls", "train")
    assert file in str(error.value) and what in str(error.value) and "shards/build.py" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_swapped_shard_of_the_same_size_is_noticed(root):
    folder = root / "cls"
    assert (folder / "train-000000.tar").stat().st_size == (folder / "train-000001.tar").stat().st_size
    shutil.copy(folder / "train-000000.tar", folder / "train-000001.tar")
    shards = ShardSet(root, "cls", "train")
    assert shards[0].members["cls"] == b"1"
    with pytest.raises(UserError, match=r"train-000001\.tar: is not the shard that its index describes"):
        shards[4]


def test_a_shard_that_changes_before_it_is_opened_is_noticed(root):
    shards = ShardSet(root, "cls", "train")
    truncate_shard(root / "cls")
    with pytest.raises(UserError, match=r"train-000001\.tar: 2048 bytes"):
        shards[5]


def test_a_labelled_split_without_a_label_names_shard_and_sample(write_shards):
    samples = [sample(1), sample(2)[:1]]
    root = write_shards("cls", {"train": [samples]})
    with pytest.raises(UserError, match=r"train-000000\.idx:3: img%2E002 has no \.cls member"):
        ShardSet(root, "cls", "train")
    write_shards("cls", {"train": [samples]}, labelled=False)
    shards = ShardSet(root, "cls", "train")
    with pytest.raises(UserError, match=r"train-000000\.tar: img\.002\.jpg has no \.cls member"):
        shards.read_member(1, "cls")


def test_an_absent_split_is_named(root):
    with pytest.raises(UserError, match="'val'"):
        ShardSet(root, "cls", "val")


def test_local_shards_open(root):
    assert len(open_shards(root, "cls", "train")) == 12
