"""The layout `folder`: classes and splits from folders."""

import pytest
from small_download import jpeg
from small_layouts import build, fail, image, make_folder, rejected, samples, write

from shards.layouts.splits import hold_out


@pytest.fixture
def raw(tmp_path):
    return make_folder(tmp_path / "raw")


def test_equal_names_in_several_classes_stay_apart(raw, tmp_path):
    meta = build("folder", raw, tmp_path / "out")
    assert [(item.id, item.name) for item in meta.classes] == [(0, "cat"), (1, "dog")]
    found = samples(tmp_path / "out", "cls", "train")
    assert {name: members["cls"] for name, members in found.items()} == {
        f"{name}/{number}.jpg": label for name, label in (("cat", b"0"), ("dog", b"1")) for number in range(3)
    }
    assert all(members["jpg"] == (raw / "train" / name).read_bytes() for name, members in found.items())
    assert meta.splits["val"].samples == 2 and "test" not in meta.splits


@pytest.mark.parametrize("name", ["valid", "validation", "Dev", "validation_set"])
def test_val_has_other_names(raw, tmp_path, name):
    (raw / "val").rename(raw / name)
    assert build("folder", raw, tmp_path / "out").splits["val"].samples == 2


def test_a_folder_that_is_no_split_is_said(raw, tmp_path, capsys):
    image(raw / "extra/cat/0.jpg")
    assert build("folder", raw, tmp_path / "out").splits["train"].samples == 6
    assert f"{raw / 'extra'} is no folder of a split, and not read" in capsys.readouterr().out


def test_splits_without_train_are_no_classes(raw, tmp_path):
    (raw / "train").rename(raw / "Testing")
    assert "has images for val, test, but none for train" in fail("folder", raw, tmp_path / "out")


def test_without_splits_a_tenth_of_each_class_is_val(tmp_path, capsys):
    raw = make_folder(tmp_path / "raw", {"": 20})
    write(raw / "README.txt", b"hello")
    meta = build("folder", raw, tmp_path / "out")
    assert "no splits given; 4 images, chosen by a hash of their names, are val" in capsys.readouterr().out
    assert (meta.splits["train"].samples, meta.splits["val"].samples) == (36, 4)
    val = samples(tmp_path / "out", "cls", "val")
    assert sorted(name.split("/")[0] for name in val) == ["cat", "cat", "dog", "dog"]
    again = build("folder", make_folder(tmp_path / "raw2", {"": 20}), tmp_path / "out2")
    assert again.splits["train"].samples == 36 and set(samples(tmp_path / "out2", "cls", "val")) == set(val)


def test_few_images_are_all_for_training(tmp_path):
    meta = build("folder", make_folder(tmp_path / "raw", {"": 4}), tmp_path / "out")
    assert set(meta.splits) == {"train"} and meta.splits["train"].samples == 8


def test_the_folder_of_an_archive_is_entered(tmp_path):
    make_folder(tmp_path / "raw/flowers", {"": 2})
    write(tmp_path / "raw/__MACOSX/x", b"")
    assert build("folder", tmp_path / "raw", tmp_path / "out").class_names == ["cat", "dog"]


def test_a_folder_that_repeats_the_split_is_entered(raw, tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"new/{split}_set").mkdir(parents=True)
        (raw / split).rename(tmp_path / f"new/{split}_set/{split}_set")
    meta = build("folder", tmp_path / "new", tmp_path / "out")
    assert meta.class_names == ["cat", "dog"] and meta.splits["val"].samples == 2
    assert "cat/0.jpg" in samples(tmp_path / "out", "cls", "train")


def test_folders_above_the_classes_are_no_classes(tmp_path):
    raw = make_folder(tmp_path / "raw/images", {"": 2}).parent
    (raw / "meta").mkdir()
    image(raw / "meta/one.jpg")
    line = fail("folder", raw, tmp_path / "out")
    assert "raw/images: no image here, but folders of images (cat, dog, ...); give the folder above the classes" in line
    write(raw / "classes.txt", "images\nmeta\n")
    assert build("folder", raw, tmp_path / "out").splits["train"].samples == 5
    make_folder(tmp_path / "one", {"train": 2})
    (tmp_path / "one/train/dog").rename(tmp_path / "one/dog")
    assert "one folder of images alone (cat) makes one class" in fail("folder", tmp_path / "one", tmp_path / "out")


def test_classes_are_those_of_train_that_hold_images(raw, tmp_path, capsys):
    write(raw / "train/annotations/a.json", b"{}")
    image(raw / "val/Dog/7.jpg")
    meta = build("folder", raw, tmp_path / "out")
    assert meta.class_names == ["cat", "dog"] and "cls: 2 classes: cat, dog" in capsys.readouterr().out
    assert rejected(meta, "val") == {"Dog/7.jpg": "its folder 'Dog' is no class of train"}


def test_sub_folders_of_a_class_belong_to_it(raw, tmp_path):
    image(raw / "train/cat/old/0.jpg")
    build("folder", raw, tmp_path / "out")
    assert samples(tmp_path / "out", "cls", "train")["cat/old/0.jpg"]["cls"] == b"0"


def test_a_test_split_is_labelled_where_its_folders_are_classes(raw, tmp_path):
    image(raw / "test/dog/9.jpg")
    meta = build("folder", raw, tmp_path / "out")
    assert meta.splits["test"].labelled
    image(raw / "test/unknown/8.jpg")
    image(raw / "test/7.jpg")
    meta = build("folder", raw, tmp_path / "out")
    assert not meta.splits["test"].labelled
    assert samples(tmp_path / "out", "cls", "test").keys() == {"dog/9.jpg", "unknown/8.jpg", "7.jpg"}


def test_class_files_order_the_classes(raw, tmp_path):
    write(raw / "classes.txt", "dog\nhorse\n")
    meta = build("folder", raw, tmp_path / "out")
    assert meta.class_names == ["dog", "horse"]
    assert rejected(meta)["cat/1.jpg"] == "its folder 'cat' is not in classes.txt"


def test_what_is_no_image_of_a_class_is_rejected(raw, tmp_path):
    image(raw / "train/loose.jpg")
    write(raw / "train/cat/notes.txt", b"x")
    write(raw / "train/.cache/x.jpg", jpeg(1))
    write(raw / "train/dog/broken.jpg", jpeg(1)[:-99])
    write(raw / "train/dog/0.png", jpeg(1))
    (raw / "train/link").symlink_to(raw / "val")
    meta = build("folder", raw, tmp_path / "out")
    assert {name: reason.split(":")[0].split(" (")[0] for name, reason in rejected(meta).items()} == {
        "loose.jpg": "lies in no folder of a class",
        "cat/notes.txt": "not an image file by its extension",
        ".cache": "a folder",
        "link": "a folder",
        "dog/broken.jpg": "cannot be decoded",
        "dog/0.png": "same stem as dog/0.jpg",
        "dog/0.jpg": "same stem as dog/0.png",
    }
    assert meta.class_names == ["cat", "dog"]


def test_images_without_a_class_are_refused(tmp_path):
    image(tmp_path / "raw/train/0.jpg")
    line = fail("folder", tmp_path / "raw", tmp_path / "out")
    assert "raw/train: no folder of a class here; it must hold one folder of images for each class" in line


def test_other_tasks_and_an_empty_folder_are_not_there(raw, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "nothing to build, it must hold a folder of images a class" in fail("folder", tmp_path / "empty", tmp_path)
    assert "--tasks det: " in fail("folder", raw, tmp_path / "out", "--tasks", "det")


def test_holding_out_moves_few_when_images_are_added(tmp_path):
    from shards.layouts import Sample, Source, SplitPlan

    def val(count):
        files = [Sample(Source(tmp_path / f"{number}.jpg", 1, 1), 0) for number in range(count)]
        return {sample.file_name for sample in hold_out(SplitPlan(True, files))["val"].samples}

    assert len(val(100)) == 10 and len(val(100) & val(110)) >= 8
