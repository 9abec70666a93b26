"""The reader of MATLAB 5 files against SciPy's, on what annotations hold."""

import numpy as np
import pytest
import scipy.io
from public_downloads import BOX, annotations, cell

from shards.layouts.matlab import read_mat
from ufo_ds.errors import UserError

ROWS = [{**BOX, "class": 196 if number else 3, "fname": f"{number:05d}.jpg"} for number in range(40)]


def flat(value):
    """SciPy's values as the reader has them."""
    if isinstance(value, np.ndarray) and value.dtype.names:
        return {name: [flat(item) for item in value[name].reshape(-1, order="F")] for name in value.dtype.names}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [flat(item) for item in value.reshape(-1, order="F")]
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return "".join(value.tolist())
    return value.reshape(-1, order="F").tolist()


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else [] if value is None else value


VALUES = {
    "annotations": annotations(ROWS),
    "class_names": cell(["AM General Hummer SUV 2000", "Citroën", "x", "日本", ""]),
    "numbers": np.arange(12).reshape(3, 4) / 7,
    "more": {"int8": np.int8([[-3]]), "int64": np.int64([[2**40]]), "float32": np.float32([[0.5]]), "bool": True,
             "a_field_with_quite_a_long_name": "short", "nothing": np.zeros((0, 0)), "text": "four"},
}  # fmt: skip


@pytest.mark.parametrize("compressed", [False, True])
def test_it_reads_what_scipy_reads(tmp_path, compressed):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, VALUES, do_compression=compressed, long_field_names=True)
    expected = scipy.io.loadmat(path)
    found = read_mat(path, list(VALUES))
    assert list(found) == list(VALUES)
    for name in VALUES:
        assert plain(found[name]) == flat(expected[name]), name
    assert list(read_mat(path, ["numbers", "absent"])) == ["numbers"]


def test_a_file_of_the_other_byte_order(tmp_path):
    from scipy.io.matlab._mio5 import MatFile5Writer  # writes in this machine's order alone: the file is turned round

    path, value = tmp_path / "a.mat", np.array([[1, 2, 300]], np.uint16)
    with path.open("wb") as file:
        MatFile5Writer(file).put_variables({"a": value})
    data = bytearray(path.read_bytes())
    words = np.frombuffer(bytes(data[128:]), "<u4").byteswap().tobytes()
    # Of the file's elements all but name and numbers are whole words; these two stand in small elements.
    head, small = words[:40], words[40:]
    name = b"\x00\x01\x00\x01a\x00\x00\x00"
    numbers = b"\x00\x00\x00\x04\x00\x00\x00\x06" + np.array([1, 2, 300], ">u2").tobytes() + bytes(2)
    assert len(small) == len(name) + len(numbers)
    path.write_bytes(bytes(data[:124]) + b"\x01\x00MI" + head + name + numbers)
    assert read_mat(path, ["a"])["a"].tolist() == [1, 2, 300]


@pytest.mark.parametrize("version", [b"MATLAB 7.3 MAT-file", b"\x89HDF\r\n"])
def test_files_of_version_7_3_are_told_apart(tmp_path, version):
    (tmp_path / "a.mat").write_bytes(version.ljust(600))
    with pytest.raises(UserError, match=r"a\.mat: .*of version 7\.3; save it with -v7"):
        read_mat(tmp_path / "a.mat", ["a"])
