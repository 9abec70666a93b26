import dataclasses
import json
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufo_ds.data.schema import (
    ClassInfo,
    Member,
    RawSample,
    Rejection,
    ShardInfo,
    SplitMeta,
    TaskMeta,
    Unmatched,
    escape_stem,
    file_name_of,
    read_index,
    unescape_key,
    write_index,
)
from ufo_ds.errors import UserError

SHARD = ShardInfo("train-000000.tar", 3, 10240, "0" * 64)
SPLIT = SplitMeta(True, 4, 3, [SHARD], [Rejection("a.jpg", "broken")], [Unmatched("train.txt:3 b.jpg", "no file")])
META = TaskMeta("det", "track1", [ClassInfo(2, "disc"), ClassInfo(7, "square")], {"train": SPLIT})


@pytest.fixture
def root(tmp_path):
    (tmp_path / "det").mkdir()
    META.write(tmp_path)
    return tmp_path


def edit(root, change):
    path = root / "det/meta.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1))
def test_a_key_gives_its_stem_back_and_holds_no_dot(stem):
    # What a file name that is not UTF-8 looks like is among these: a lone surrogate of the escape range.
    try:
        stem.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return  # no file name can hold it
    key = escape_stem(stem)
    assert set(key) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_~-%")
    decoded = unescape_key(key)
    assert decoded.encode("utf-8", "surrogateescape") == stem.encode("utf-8", "surrogateescape")


def test_keys_are_spelled_as_documented():
    assert escape_stem("a.b c%2E") == "a%2Eb%20c%252E"
    assert escape_stem("été-1_~") == "%C3%A9t%C3%A9-1_~"
    assert file_name_of("a%2Eb.JPG") == "a.b.JPG"
    assert file_name_of(escape_stem("nö.1") + ".jpeg") == "nö.1.jpeg"


def test_the_image_is_the_first_member():
    assert RawSample("a.jpeg", {"jpeg": b"i", "png": b"m"}).image == b"i"


def test_an_index_is_read_as_written_in_the_format_of_wds2idx(tmp_path):
    samples = [
        [Member("jpg", 512, 7, "a.jpg"), Member("cls", 1536, 1, "a.cls")],
        [Member("JPG", 2560, 0, "b%2Ec.JPG")],
    ]
    write_index(tmp_path / "x.idx", samples)
    assert (tmp_path / "x.idx").read_text() == "v1.2 2\njpg 512 7 a.jpg cls 1536 1 a.cls\nJPG 2560 0 b%2Ec.JPG\n"
    assert read_index(tmp_path / "x.idx") == samples
    assert [path.name for path in tmp_path.iterdir()] == ["x.idx"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", ":1: not an index"),
        ("v1.1 0\n", ":1: not an index"),
        ("v1.2 x\n", ":1: not an index"),
        ("v1.2 2\njpg 0 1 a.jpg\n", "1 samples, 2 announced"),
        ("v1.2 1\njpg 0 a.jpg\n", ":2: not"),
        ("v1.2 1\njpg -1 2 a.jpg\n", ":2: not"),
    ],
)
def test_a_broken_index_is_named(tmp_path, text, fault):
    path = tmp_path / "x.idx"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_index(path)
    assert str(error.value).startswith(str(path)) and fault in str(error.value)


def test_an_absent_index_is_named(tmp_path):
    with pytest.raises(UserError, match=r"x.idx: cannot be read"):
        read_index(tmp_path / "x.idx")


def test_meta_is_read_as_written(root):
    meta = TaskMeta.read(root, "det")
    assert meta == META
    assert (meta.class_ids, meta.class_names, meta.num_classes) == ([2, 7], ["disc", "square"], 2)
    assert [meta.index_of(2), meta.index_of(7)] == [0, 1]
    assert meta.splits["train"].shards[0].index_name == "train-000000.idx"
    assert pickle.loads(pickle.dumps(meta)).splits["train"] == SPLIT


def test_a_foreign_class_id_is_an_error(root):
    with pytest.raises(UserError, match=r"3 is none of the 2 class ids of det"):
        TaskMeta.read(root, "det").index_of(3)


def test_a_missing_split_names_those_there_are(root):
    with pytest.raises(UserError, match=r"no split 'val', only train"):
        TaskMeta.read(root, "det").splits["val"]


def test_an_absent_meta_is_an_unfinished_build(root):
    for folder, task in ((root, "seg"), (root / "nothing", "det"), (root / "det/meta.json", "det")):
        with pytest.raises(UserError, match=r"unfinished or absent build; run shards/build\.py"):
            TaskMeta.read(folder, task)


FAULTS = [
    (lambda v: v.pop("format"), "format is missing"),
    (lambda v: v.update(format=2), "format is 2, this program reads 1"),
    (lambda v: v.update(task="cls"), "task is 'cls', not 'det'"),
    (lambda v: v.update(classes=[]), "classes is empty"),
    (lambda v: v["classes"].reverse(), "classes is not in ascending order"),
    (lambda v: v["classes"][0].update(id=True), "classes[0].id is True, not of type int"),
    (lambda v: v["classes"][0].update(id=-1), "classes[0].id is negative"),
    (lambda v: v["classes"].__setitem__(1, 3), "classes[1] is not an object"),
    (lambda v: v.update(splits={}), "splits is empty"),
    (lambda v: v["splits"]["train"].update(labelled=1), "splits.train.labelled is 1, not of type bool"),
    (lambda v: v["splits"]["train"].update(found=5), "splits.train.found is 5, 4 are written or rejected"),
    (lambda v: v["splits"]["train"].update(samples=4), "splits.train.samples is 4, the shards hold 3"),
    (lambda v: v["splits"]["train"]["shards"][0].update(name="../x.tar"), "splits.train.shards[0].name"),
    (lambda v: v["splits"]["train"]["shards"][0].update(name="val-000000.tar"), "splits.train.shards[0].name"),
    (lambda v: v["splits"]["train"]["shards"][0].update(sha256="ab"), "splits.train.shards[0].sha256"),
    (lambda v: v["splits"]["train"]["rejected"][0].pop("reason"), "splits.train.rejected[0].reason is missing"),
]


@pytest.mark.parametrize(("change", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
def test_an_impossible_meta_names_file_and_key(root, change, fault):
    edit(root, change)
    with pytest.raises(UserError) as error:
        TaskMeta.read(root, "det")
    assert str(error.value).startswith(f"{root / 'det/meta.json'}: ") and fault in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, b"\xff"], ids=["empty", "cut", "list", "deep", "bytes"])
def test_a_meta_that_is_no_json_is_an_error(root, text):
    path = root / "det/meta.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"meta.json"):
        TaskMeta.read(root, "det")


def test_seg_ids_have_no_holes(tmp_path):
    (tmp_path / "seg").mkdir()
    dataclasses.replace(META, task="seg").write(tmp_path)
    with pytest.raises(UserError, match=r"classes of seg do not count from 0"):
        TaskMeta.read(tmp_path, "seg")


def test_the_schema_needs_nothing_heavy():
    import subprocess

    code = (
        "import sys, ufo_ds.data.schema; print([m for m in ('torch', 'numpy', 'cv2', 'deepspeed') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
