"""meta.json, spoiled key by key."""

import copy
import json

from refusals import HUGE, JSON, nested, parametrized, refusal

from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import ShardSet


def set_to(*route, value):
    """A change of the JSON: what stands at `route` becomes `value`."""

    def change(meta):
        for key in route[:-1]:
            meta = meta[key]
        meta[route[-1]] = value

    return change


def drop(*route):
    def change(meta):
        for key in route[:-1]:
            meta = meta[key]
        del meta[route[-1]]

    return change


TRAIN = ("splits", "train")
SHARD = (*TRAIN, "shards", 0)
VALUES = {
    "format of tomorrow": (set_to("format", value=2), "format is 2"),
    "format as text": (set_to("format", value="1"), "format is '1', not of type int"),
    "format true": (set_to("format", value=True), "format is True"),
    "format 1.0": (set_to("format", value=1.0), "format is 1.0"),
    "no format": (drop("format"), "format is missing"),
    "another task": (set_to("task", value="cls"), "task is 'cls', not 'det'"),
    "task null": (set_to("task", value=None), "task is None"),
    "no layout": (drop("layout"), "layout is missing"),
    "layout a list": (set_to("layout", value=[]), "layout is []"),
    "no classes": (drop("classes"), "classes is missing"),
    "classes an object": (set_to("classes", value={}), "classes is {}"),
    "classes empty": (set_to("classes", value=[]), "classes is empty"),
    "class a number": (set_to("classes", 1, value=3), "classes[1] is not an object"),
    "class id negative": (set_to("classes", 0, "id", value=-1), "classes[0].id is negative"),
    "class id infinite": (set_to("classes", 0, "id", value=float("inf")), "classes[0].id is inf"),
    "class id NaN": (set_to("classes", 0, "id", value=float("nan")), "classes[0].id is nan"),
    "class id beyond 64 bits": (set_to("classes", 1, "id", value=2**63), "classes[1].id is 9223372036854775808, more"),
    "class id huge": (set_to("classes", 1, "id", value=10**400), "classes[1].id is 1000"),
    "class id twice": (set_to("classes", 1, "id", value=3), "classes is not in ascending order of distinct ids"),
    "class name missing": (drop("classes", 0, "name"), "classes[0].name is missing"),
    "class name a number": (set_to("classes", 0, "name", value=7), "classes[0].name is 7"),
    "splits a list": (set_to("splits", value=[]), "splits is []"),
    "splits empty": (set_to("splits", value={}), "splits is empty"),
    "split unknown": (lambda meta: meta["splits"].update(minival={**meta["splits"]["test"], "found": 0, "samples": 0,
                                                         "shards": [], "rejected": []}), "splits.minival"),
    "split a path": (lambda meta: meta["splits"].update({"../x": meta["splits"].pop("train")}), "splits.../x"),
    "split a number": (set_to(*TRAIN, value=3), "splits.train is not an object"),
    "labelled a number": (set_to(*TRAIN, "labelled", value=1), "splits.train.labelled is 1"),
    "found a float": (set_to(*TRAIN, "found", value=7.0), "splits.train.found is 7.0"),
    "found too large": (set_to(*TRAIN, "found", value=8), "splits.train.found is 8, 7 are"),
    "samples negative": (set_to(*TRAIN, "samples", value=-7), "splits.train.samples is negative"),
    "samples too many": (set_to(*TRAIN, "samples", value=8), "splits.train.samples is 8, the shards hold 7"),
    "no samples": (lambda meta: meta["splits"]["train"].update(found=0, samples=0, shards=[]), "samples is 0"),
    "shards null": (set_to(*TRAIN, "shards", value=None), "splits.train.shards is None"),
    "shard text": (set_to(*SHARD, value="x.tar"), "splits.train.shards[0] is not an object"),
    "shard twice": (lambda meta: meta["splits"]["train"].update(
        found=14, samples=14, shards=meta["splits"]["train"]["shards"] * 2), "train.shards lists one shard twice"),
    "shard of another split": (set_to(*SHARD, "name", value="val-000000.tar"), "name is 'val-000000.tar', not train-"),
    "shard a path": (set_to(*SHARD, "name", value="../../train-000000.tar"), "shards[0].name is '../../train"),
    "shard absolute": (set_to(*SHARD, "name", value="/etc/passwd"), "shards[0].name is '/etc/passwd'"),
    "shard with NUL": (set_to(*SHARD, "name", value="train-000000.tar\0"), "shards[0].name is"),
    "shard in other digits": (set_to(*SHARD, "name", value="train-٠٠٠٠٠٠.tar"), "shards[0].name is"),
    "shard of gz": (set_to(*SHARD, "name", value="train-000000.tar.gz"), "shards[0].name is"),
    "shard empty": (set_to(*SHARD, "samples", value=0), "splits.train.shards[0].samples is 0"),
    "bytes a float": (set_to(*SHARD, "bytes", value=1e400), "shards[0].bytes is inf"),
    "bytes huge": (set_to(*SHARD, "bytes", value=10**30), "shards[0].bytes is 10000"),
    "sum short": (set_to(*SHARD, "sha256", value="ab"), "shards[0].sha256 is not 64 hex digits"),
    "sum in capitals": (set_to(*SHARD, "sha256", value="A" * 64), "shards[0].sha256 is not 64 hex digits"),
    "rejected a number": (set_to(*TRAIN, "rejected", value=0), "splits.train.rejected is 0"),
    "rejection empty": (set_to(*TRAIN, "rejected", value=[{}]), "splits.train.rejected[0].file is missing"),
    "unmatched null": (set_to(*TRAIN, "unmatched", value=[None]), "splits.train.unmatched[0] is not an object"),
    "name deep": (set_to("classes", 0, "name", value=json.loads(nested(900))), "classes[0].name is [[[["),
    "name long": (set_to("task", value="x" * 10**6), "task is 'xxx"),
}  # fmt: skip


@parametrized(VALUES)
def test_an_impossible_value_is_named(shards, case):
    change, fragment = case
    path = shards / "det/meta.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))
    refusal(lambda: TaskMeta.read(shards, "det"), shards, str(path), fragment, "run shards/build.py again")
    refusal(lambda: ShardSet(shards, "det", "train"), shards, fragment)


@parametrized(JSON)
def test_a_file_that_is_no_meta_is_named(shards, case):
    path = shards / "cls/meta.json"
    case(path)
    refusal(lambda: TaskMeta.read(shards, "cls"), shards, str(path), "run shards/build.py")


def test_a_number_of_thousands_of_digits_is_no_number(shards):
    path = shards / "cls/meta.json"
    path.write_text(path.read_text().replace('"samples": 7', f'"samples": {HUGE}'))
    refusal(lambda: TaskMeta.read(shards, "cls"), shards, str(path), "cannot be read")


def test_more_classes_than_a_mask_can_hold_are_refused(shards):
    path = shards / "seg/meta.json"
    meta = json.loads(path.read_text())
    for count, fault in ((256, "of seg are 256, more than 255"), (255, None)):
        changed = copy.deepcopy(meta) | {"classes": [{"id": i, "name": str(i)} for i in range(count)]}
        path.write_text(json.dumps(changed))
        if fault:
            refusal(lambda: TaskMeta.read(shards, "seg"), shards, str(path), fault)
    assert TaskMeta.read(shards, "seg").num_classes == 255


def test_further_keys_are_no_mistake(shards):
    path = shards / "cls/meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "note": "mine"}))
    assert TaskMeta.read(shards, "cls").num_classes == 196
