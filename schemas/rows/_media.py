"""Columns with pictures, videos and sound next to a conversation."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

from schemas.rows.message_fields import MEDIA, Note
from schemas.rows.row import Conversation
from schemas.rows.tool_calls import parse_if_json
from schemas.rows.values import bare_name, is_blank, kind_name
from schemas.rule_ids import RowRule, Violation
from schemas.texts.media_marks import MEDIA_FILES

ADDRESSES = ("url", "urls", "uri", "uris")
MEDIA_COLUMNS = MEDIA.union(
    medium + place
    for medium, place in product(
        (*MEDIA, "img", "imgs", "picture", "pictures", "photo", "photos"),
        ("path", "paths", "file", "files", "filename", "filenames", *ADDRESSES),
    )
)
"""Names of columns, without their spelling."""
PLACEHOLDER = re.compile(r"<(?:image|video|audio)(?:[ _-]?\d+)?>")
"""Where LLaMA-Factory, ms-swift and LLaVA put a picture, a video or sound into a text."""
MEDIA_FILE = re.compile(
    rf"(?!https?://).*\.(?:{MEDIA_FILES})|data:(?:image|video|audio)/.*", re.IGNORECASE | re.DOTALL
)


def read_media(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Report pictures, videos and sound, and their placeholders in the text.

    An address alone is no reason: it often shows what the text is about.
    """
    value = parse_if_json(row[name])
    placeholder = _placeholder(conversation)
    if _is_no_media(value):
        if not placeholder:
            return []
        return [Violation(RowRule.NEEDS_MEDIA, f"{placeholder} in the text, and {name} is empty")]
    is_listed = isinstance(value, list | dict) and not _is_scalar_list(value)
    is_address = bare_name(name).endswith(ADDRESSES)
    is_file = isinstance(value, str) and MEDIA_FILE.fullmatch(value.strip())
    if not (placeholder or (is_listed and not is_address) or is_file):
        return None
    seen = f"{kind_name(value)} in {name}"
    if isinstance(value, list):
        seen = f"{len(value)} in {name}"
    return [
        Violation(RowRule.NEEDS_MEDIA, seen + (f", {placeholder} in the text" * bool(placeholder)))
    ]


def _is_no_media(value: Any) -> bool:
    """Return True for nothing, and for lists and objects of nothing."""
    items = list(value.values()) if isinstance(value, dict) else value
    return is_blank(value) or (isinstance(items, list) and all(_is_no_media(i) for i in items))


def _is_scalar_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int | float) for item in value)


def _placeholder(conversation: Conversation) -> str:
    """Find the first placeholder of a picture, a video or sound in the texts."""
    for message in conversation.messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str) and "<" in content and (found := PLACEHOLDER.search(content)):
            return found.group()
    return ""
