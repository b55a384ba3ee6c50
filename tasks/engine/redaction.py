"""Addresses without what must not be stored: passwords and signed queries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ADDRESS = re.compile(r"[\w+.:-]*://")
IN_TEXT = re.compile(r"(\w[\w+.-]*://)(?:[^\s/]*@)?([^\s?]*)(?:\?\S*)?")


def without_secrets(text: str) -> str:
    """Remove user, password and query from an address, or from addresses within other text."""
    if ADDRESS.match(text):
        return re.sub(r"//[^/]*@", "//", text.split("?")[0])
    return IN_TEXT.sub(r"\1\2", text)


def public_settings(value: Any) -> Any:
    """Return a copy of plain settings without the secrets of addresses."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {name: public_settings(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_settings(item) for item in value]
    return value


def without_folders(text: str) -> str:
    """Return only the last part of an absolute path; other text stays as it is."""
    path = Path(text.removeprefix("file://"))
    return path.name if path.is_absolute() else text
