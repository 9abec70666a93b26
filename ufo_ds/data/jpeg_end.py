"""Where a JPEG ends: a decoder fills what is missing with grey, and may say nothing."""

from __future__ import annotations

import re

# Markers, but for those without a segment; entropy-coded data hold FF 00 and the restarts FF D0 to FF D7 alone.
_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])")
_END = b"\xd9"


def has_end(data: bytes) -> bool:
    """Whether a JPEG file holds the end of its picture, from marker to marker (ITU-T T.81, annex B).

    The end of a thumbnail in a segment is none, and what follows the picture, as a phone's film does, plays no part.
    """
    place = 2
    while marker := _MARKER.search(data, place):
        if marker[1] == _END:
            return True
        start = marker.end()
        place = start + max(2, int.from_bytes(data[start : start + 2], "big"))
    return False
