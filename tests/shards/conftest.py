"""Fixtures of the shard builder's tests."""

import sys
from pathlib import Path

import pytest

# The builder is part of the checkout, not of the installed package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from small_download import Download


@pytest.fixture
def download(tmp_path):
    return Download(tmp_path)


@pytest.fixture
def contents():
    """All bytes under a folder, by name, but for the builder's private record."""

    def read(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
                if path.is_file() and path.name != ".build.json"}  # fmt: skip

    return read
