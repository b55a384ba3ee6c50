"""Addresses without what must not be stored: passwords and signed queries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def without_secrets(text: str) -> str:
    """Leave user, password and query out of an address; other text stays as it is.

    Args:
        text: An address with a scheme, or anything else.

    Returns:
        What may be shown, logged and stored.
    """
    if "://" not in text:
        return text
    return re.sub(r"//[^/]*@", "//", text.split("?")[0])


def public_settings(value: Any) -> Any:
    """Walk through settings and leave the secrets of every address out.

    Args:
        value: A configuration as plain mappings, lists and values.

    Returns:
        A copy that may be stored with a run.
    """
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {name: public_settings(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_settings(item) for item in value]
    return value


def without_folders(text: str) -> str:
    """Keep only the last part of an absolute path; other text stays as it is.

    Args:
        text: A path, or anything else.

    Returns:
        What may leave the machine.
    """
    path = Path(text.removeprefix("file://"))
    return path.name if path.is_absolute() else text
