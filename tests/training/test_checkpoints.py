"""Files of a checkpoint: whole or not taken, damaged or from elsewhere or not; the engine itself is a stand-in here."""

import errno
import json
import shutil

import pytest
import torch

from ufo_ds.command_line import recipe_from
from ufo_ds.data.folders import fingerprint
from ufo_ds.data.schema import ClassInfo, ShardInfo, SplitMeta, TaskMeta
from ufo_ds.distributed import ObjectExchange, Ranks
from ufo_ds.errors import UserError
from ufo_ds.training import checkpoints
from ufo_ds.training.checkpoints import check_resumable, list_checkpoints, newest_checkpoint

ALONE = ObjectExchange(Ranks(0, 1, 0, 1))
RECIPE = recipe_from({"train": {"keep_checkpoints": 2}}, "test")


class Engine:
    """Writes two files, as DeepSpeed does on one rank."""

    def __init__(self, fail_with=None):
        self.fail_with = fail_with

    def save_checkpoint(self, folder, tag, client_state, save_latest):
        from pathlib import Path

        Path(folder, tag).mkdir()
        torch.save({"weights": torch.arange(100)}, Path(folder, tag, "mp_rank_00_model_states.pt"))
        if self.fail_with:
            raise self.fail_with
        torch.save({"moments": torch.arange(200)}, Path(folder, tag, "zero_pp_rank_0_mp_rank_00_optim_states.pt"))


def save(folder, step, engine=None):
    checkpoints.save_checkpoint(engine or Engine(), folder, step, {"best": {"step": step}}, ALONE, RECIPE, {"cls": "a"})


def names(folder):
    return [path.name for path in list_checkpoints(folder)]


@pytest.fixture
def folder(tmp_path):
    for step in (2, 4):
        save(tmp_path / "checkpoints", step)
    return tmp_path / "checkpoints"


def test_the_newest_is_found_with_its_state_and_the_oldest_goes(folder):
    found, damaged = newest_checkpoint(folder)
    assert (found.path.name, found.step, damaged) == ("step-00000004", 4, [])
    assert found.side["state"] == {"best": {"step": 4}}
    save(folder, 6)
    assert names(folder) == ["step-00000004", "step-00000006"]
    assert set(json.loads((folder / "written.json").read_text())) >= set(names(folder))
    assert newest_checkpoint(folder.parent / "nothing") == (None, [])


def truncate(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


MODEL, OPTIMIZER = "mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"
DAMAGES = {
    "truncated": (lambda path: truncate(path / OPTIMIZER), "bytes"),
    "a flipped bit": (lambda path: flip(path / OPTIMIZER), "other content than was written"),
    "a file gone": (lambda path: (path / MODEL).unlink(), "cannot be read (No such file"),
    "a file more": (lambda path: (path / "extra.pt").write_bytes(b"x"), "extra.pt is not one of its files"),
    "side file gone": (lambda path: (path / "ufo_ds.json").unlink(), "ufo_ds.json cannot be read"),
    "side file changed": (lambda path: (path / "ufo_ds.json").write_text("{}"), "ufo_ds.json was changed"),
    "side file torn": (lambda path: truncate(path / "ufo_ds.json"), "ufo_ds.json was changed"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_one_is_told_and_the_one_before_is_taken(folder, kind):
    damage, words = DAMAGES[kind]
    damage(folder / "step-00000004")
    found, damaged = newest_checkpoint(folder)
    assert found.step == 2
    assert len(damaged) == 1 and "step-00000004" in damaged[0] and words in damaged[0], damaged
    damage(folder / "step-00000002")
    with pytest.raises(UserError, match=r"no checkpoint of this run is whole \(2 there\)"):
        newest_checkpoint(folder)


def test_the_damaged_one_does_not_outlive_a_good_one_that_is_older_than_it(folder):
    """The run goes back behind it; rotation by number alone would keep the damaged one and remove the good."""
    flip(folder / "step-00000004" / MODEL)
    save(folder, 3)
    assert names(folder) == ["step-00000002", "step-00000003"]
    assert newest_checkpoint(folder)[0].step == 3


def test_one_that_this_run_did_not_write_is_not_unpickled(folder, tmp_path):
    save(tmp_path / "elsewhere", 9)
    shutil.copytree(tmp_path / "elsewhere" / "step-00000009", folder / "step-00000009")
    found, damaged = newest_checkpoint(folder)
    assert found.step == 4 and "not in written.json" in damaged[0]


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 576 vs 534"),
], ids=["system", "torch"])  # fmt: skip
def test_a_write_that_fails_costs_nothing(folder, error):
    with pytest.raises(UserError, match=r"the checkpoint of step 6 cannot be written .*earlier ones are as they were"):
        save(folder, 6, Engine(error))
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002", "step-00000004", "written.json"]
    assert newest_checkpoint(folder)[0].step == 4


def test_other_errors_stay_what_they_are_and_the_next_save_clears_up(folder):
    with pytest.raises(RuntimeError, match="a bug"):
        save(folder, 6, Engine(RuntimeError("a bug")))
    assert (folder / "step-00000006.partial").is_dir() and newest_checkpoint(folder)[0].step == 4
    save(folder, 8)
    assert names(folder) == ["step-00000004", "step-00000008"] and not list(folder.glob("*.partial"))


def test_a_run_keeps_its_recipe_its_shards_and_its_number_of_ranks(folder):
    found, _ = newest_checkpoint(folder)
    same = recipe_from({"data": {"workers": 7}, "train": {"keep_checkpoints": 1}}, "test")
    check_resumable(found, same, {"cls": "a"}, 1)
    with pytest.raises(UserError, match="written by 1 ranks, this run has 2"):
        check_resumable(found, RECIPE, {"cls": "a"}, 2)
    with pytest.raises(UserError, match=r"key 'data\.shards': the cls shards in .* are not those"):
        check_resumable(found, RECIPE, {"cls": "b"}, 1)
    with pytest.raises(UserError, match=r"key 'seed' was 0 and is 1 now"):
        check_resumable(found, recipe_from({"seed": 1}, "test"), {"cls": "a"}, 1)


def test_a_key_that_is_younger_than_the_checkpoint_had_its_default(folder):
    found, _ = newest_checkpoint(folder)
    del found.side["recipe"]["train"]["close_augment"]
    check_resumable(found, RECIPE, {"cls": "a"}, 1)
    with pytest.raises(UserError, match=r"key 'train\.close_augment' was 0\.0 and is 0\.5 now"):
        check_resumable(found, recipe_from({"train": {"close_augment": 0.5}}, "test"), {"cls": "a"}, 1)


def test_the_fingerprint_is_of_content_and_order():
    def meta(*digests, name="car"):
        shards = [ShardInfo(f"train-{i:06d}.tar", 3, 2048, digest) for i, digest in enumerate(digests)]
        return TaskMeta("cls", "test", [ClassInfo(0, name)], {"train": SplitMeta(True, 3, 3, shards, [], [])})

    same = fingerprint(meta("aa", "bb"))
    assert same == fingerprint(meta("aa", "bb"))
    others = [meta("bb", "aa"), meta("aa"), meta("aa", "bb", name="bus")]
    assert len({same, *map(fingerprint, others)}) == 4
