"""Stanford Cars: which split, which label, and what is not written."""

import pytest
from public_downloads import Cars, CarsArchive
from test_track1 import members


@pytest.fixture
def cars(tmp_path):
    return Cars(tmp_path)


def labels(download, split):
    """Class id by key, as stock WebDataset reads it."""
    return {key: int(sample["cls"]) for key, sample in members(download.out, "cls", split).items()}


def test_every_image_has_the_class_of_its_line(cars):
    meta = cars.build()
    assert [(item.id, item.name) for item in meta.classes] == list(enumerate(Cars.NAMES))  # from 0, in order
    assert labels(cars, "train") == {f"{number:05d}": number % 4 for number in range(1, 8)}
    for key, sample in members(cars.out, "cls", "train").items():
        assert sample["jpg"] == (cars.raw / f"cars_train/{key}.jpg").read_bytes()
    assert meta.layout == "stanford_cars"


def test_the_test_images_are_val_where_their_labels_are_there(cars, capsys):
    meta = cars.build()
    assert list(meta.splits) == ["train", "val"] and meta.splits["val"].labelled
    assert labels(cars, "val") == {f"{number:05d}": number % 4 for number in range(1, 6)}
    notes = capsys.readouterr().out
    assert "train has 7 images, the official download 8144" in notes and "val has 5 images" in notes
    assert "4 classes, the official download has 196" in notes


@pytest.mark.parametrize("place", ["devkit/cars_test_annos_withlabels.mat", "devkit/cars_test_annos.mat"])
def test_their_labels_may_be_in_the_kit(cars, place):
    (cars.raw / "cars_test_annos_withlabels.mat").unlink()
    cars.save(labels=place)
    assert list(cars.build().splits) == ["train", "val"]


def test_without_labels_they_are_test(cars, capsys):
    (cars.raw / "cars_test_annos_withlabels.mat").unlink()
    (cars.raw / "cars_test/extra.jpg").write_bytes((cars.raw / "cars_test/00001.jpg").read_bytes())
    test = cars.build().splits["test"]
    assert not test.labelled and test.samples == 5
    assert [(item.file, item.reason) for item in test.rejected] == [("extra.jpg", "not listed in the annotations")]
    assert "no val split (cars_test with cars_test_annos_withlabels.mat is absent)" in capsys.readouterr().out
    (cars.raw / "devkit/cars_test_annos.mat").unlink()
    assert cars.build().splits["test"].samples == 6  # no list at all


def test_folders_within_folders_as_mirrors_have_them(cars):
    for name, place in (("cars_train", "cars_train/cars_train"), ("devkit", "car_devkit/devkit")):
        (cars.raw / name).rename(cars.raw / "aside")
        (cars.raw / place).parent.mkdir()
        (cars.raw / "aside").rename(cars.raw / place)
    meta = cars.build()
    assert {name: split.samples for name, split in meta.splits.items()} == {"train": 7, "val": 5}
    assert not meta.splits["train"].rejected


def test_a_part_alone(cars):
    cars.images("cars_train", [])
    for path in (cars.raw / "cars_test").iterdir():
        path.unlink()
    (cars.raw / "cars_test").rmdir()
    assert list(cars.build().splits) == ["train"]


def test_what_does_not_fit_is_listed(cars):
    cars.train[1]["class"] = 5
    cars.train[2]["class"] = 0
    cars.train += [dict(cars.train[3], **{"class": 3}), dict(cars.train[0], fname="00099.jpg"), cars.train[4]]
    cars.images("cars_train", ["extra.jpg"])
    (cars.raw / "cars_train/note.txt").write_text("x")
    cars.save()
    train = cars.build().splits["train"]
    assert {item.file: item.reason for item in train.rejected} == {
        "00002.jpg": "cars_train_annos.mat: annotations(2): class 5 is outside 1..4",
        "00003.jpg": "cars_train_annos.mat: annotations(3): class 0 is outside 1..4",
        "00004.jpg": "listed twice, as cars_train_annos.mat: annotations(4) and cars_train_annos.mat: annotations(8), "
        "with different classes",
        "extra.jpg": "not listed in the annotations",
        "note.txt": "not an image file by its extension (jpg, jpeg, png, bmp, webp)",
    }
    assert [item.entry for item in train.unmatched] == ["cars_train_annos.mat: annotations(9) 00099.jpg"]
    assert train.found == 9 == train.samples + len(train.rejected)


def test_one_archive_is_parted_by_its_list(tmp_path):
    archive = CarsArchive(tmp_path)
    archive.images("car_ims", ["extra.jpg"])
    meta = archive.build()
    assert labels(archive, "train") == {f"{number + 1:06d}": number % 4 for number in range(9) if number % 3 != 2}
    assert labels(archive, "val") == {f"{number + 1:06d}": number % 4 for number in range(9) if number % 3 == 2}
    assert meta.class_names == list(Cars.NAMES)
    assert [item.file for item in meta.splits["train"].rejected] == ["extra.jpg"]
    assert sum(split.found for split in meta.splits.values()) == 10
