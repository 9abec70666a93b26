"""Addresses without what must not be read by others: for messages, logs and records."""

from __future__ import annotations

import re
from typing import Any

_USER = re.compile(r"(://)[^/?#\s'\"]*@")
_QUERY = re.compile(r"(://[^\s?'\"]*)\?[^\s'\"]*")


def without_secrets(value: Any) -> Any:
    """A text with `***` for user, password and query of every URL in it; of containers, all their texts."""
    if isinstance(value, str):
        return _QUERY.sub(r"\1?***", _USER.sub(r"\1***@", value)) if "://" in value else value
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_secrets(item) for item in value)
    return value
