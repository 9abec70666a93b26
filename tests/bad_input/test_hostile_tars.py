"""Tars that were built to deceive: any change of headers, kinds, names, sizes and ends, and any extended header."""

import tarfile

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from targets import Targets, accepts

HEADER = {"name": (0, 100), "mode": (100, 8), "size": (124, 12), "mtime": (136, 12), "type": (156, 1),
          "link": (157, 100), "magic": (257, 8), "prefix": (345, 155)}  # fmt: skip
"""Offset and length of the fields of a tar's header."""
NAMES = ["a.jpg", "a.cls", "b.jpg", "b.JPG", "b.cls", "./c.jpg", "c.json", "d/e.jpg", "d/e.png", "../x.jpg", "/x.jpg",
         "x/../y.jpg", "d.e/f.jpg", ".hidden", "README", "__key__", "a b.jpg", "\u00e9.jpg", "n" * 99 + ".jpg", "d/",
         "long/" * 40 + "g.jpg"]  # fmt: skip
member_names = st.sampled_from(NAMES) | st.text(st.sampled_from("ab./_ \0\n\u00e9"), max_size=8)
numbers = st.sampled_from([b"0" * 11 + b"\0", b"7" * 11 + b"\0", b"\x80" + bytes(10) + b"\1", b"\xff" * 12, b"-1", b"",
                           b"9", b"00000001000\0", b" 12 ", b"\x80" + b"\xff" * 11])  # fmt: skip
fields = st.fixed_dictionaries({}, optional={
    "name": st.binary(max_size=100), "mode": numbers, "size": numbers, "mtime": numbers,
    "type": st.sampled_from([bytes([sign]) for sign in b"01234567xgLKSMDNVX\0z\xff"]),
    "link": st.binary(max_size=20), "magic": st.sampled_from([b"ustar\x0000", b"ustar  \0", bytes(8), b"x" * 8]),
    "prefix": st.binary(max_size=155)})  # fmt: skip
records = st.dictionaries(
    st.sampled_from(["path", "size", "linkpath", "mtime", "GNU.sparse.major", "GNU.sparse.size", "hdrcharset"]),
    st.sampled_from(["1", "-1", "99999999", "1.5", "x", "", "a.jpg", "/etc/x.jpg", "../x.jpg", "9" * 40, "BINARY"]),
    max_size=3,
)


@pytest.fixture(scope="module")
def targets(built):
    made = Targets(built.out)
    yield made
    made.close()


@st.composite
def hostile_tars(draw, payloads):
    """A tar of up to six members, with headers, names, kinds, sizes and extended headers that nobody would write."""
    data = b""
    for number in range(draw(st.integers(1, 6))):
        payload = draw(st.sampled_from(payloads) | st.binary(max_size=20))
        sound = f"{number // 2}.{('jpg', 'cls')[number % 2]}"
        info = tarfile.TarInfo(draw(st.just(sound) if draw(st.integers(0, 9)) else member_names))
        info.size = len(payload)
        if not draw(st.integers(0, 5)):
            info.pax_headers = draw(records)
        header = bytearray(info.tobuf(draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])), "utf-8",
                                      "surrogateescape"))  # fmt: skip
        changes = draw(fields) if not draw(st.integers(0, 5)) else {}
        start = len(header) - 512
        for name, value in changes.items():
            offset, length = HEADER[name]
            header[start + offset : start + offset + length] = value[:length].ljust(length, b"\0")
        if draw(st.integers(0, 15)):  # the sum is mostly right
            header[start + 148 : start + 156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header[start:]))[0]
        data += bytes(header) + payload + bytes(-len(payload) % 512)
    data += bytes(draw(st.sampled_from([1024] * 7 + [512, 0, 10240])))
    cut = draw(st.integers(0, len(data))) if not draw(st.integers(0, 9)) else len(data)
    return data[:cut] + draw(st.sampled_from([b""] * 8 + [bytes(512), b"x"]))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_tar_is_taken_as_everybody_sees_it_or_refused(targets, built, data):
    image = built.image("cls", "train", "train_0.jpg").read_bytes()
    payloads = [image, b"1", built.mask("train", "train_0.jpg").read_bytes(), b'{"image_id": 1, "annotations": []}']
    event(f"taken: {accepts(targets.tar, data.draw(hostile_tars(payloads)))}")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_tar_under_an_index_of_its_own_is_read_or_refused(targets, built, data):
    """The index says where the payloads would be, were the headers what they seem."""
    image = built.image("cls", "train", "train_0.jpg").read_bytes()
    tar = data.draw(hostile_tars([image, b"1"]))
    members = [f"{position + 512} {_size_in(tar, position)}" for position in range(0, len(tar) - 511, 512)
               if tar[position + 257 :].startswith(b"ustar")]  # fmt: skip
    lines = [f"jpg {first} {n}.jpg cls {second} {n}.cls" for n, (first, second) in
             enumerate(zip(members[::2], members[1::2], strict=False))]  # fmt: skip
    index = "\n".join([f"v1.2 {len(lines)}", *lines, ""])
    event(f"taken: {accepts(targets.shard, tar, index.encode())}")


def _size_in(tar, position):
    try:
        return int(tar[position + 124 : position + 135], 8)
    except ValueError:
        return 1
