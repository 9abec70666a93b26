"""A sound download and sound shards, built once, copied for each case."""

import shutil
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS / "shards")]  # the builder, and the small download of its tests

from rights import without_override  # noqa: E402
from small_download import Download  # noqa: E402


@pytest.fixture(autouse=True)
def file_modes_hold():
    """Also where the tests are run by root."""
    with without_override():
        yield


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A download of three tasks with its shards; not to be changed."""
    download = Download(tmp_path_factory.mktemp("sound"))
    download.build()
    return download


@pytest.fixture
def shards(built, tmp_path):
    """A copy of the shards."""
    return Path(shutil.copytree(built.out, tmp_path / "shards"))


@pytest.fixture
def download(built, tmp_path):
    """A copy of the download, with its shards."""
    copy = object.__new__(Download)
    copy.counts, copy.raw, copy.out = built.counts, tmp_path / "raw", tmp_path / "out"
    copy.data, copy.test = copy.raw / "track1_train_data", copy.raw / "track1_test_data"
    shutil.copytree(built.raw, copy.raw)
    return copy
