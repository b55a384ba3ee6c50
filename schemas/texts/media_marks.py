"""Marks of a picture, a video or sound in a text that needs it: LLaVA's `<image>`, Qwen-VL's `<img>`."""

from __future__ import annotations

import re

MEDIA_FILES = r"jpe?g|png|gif|webp|bmp|tiff?|mp4|avi|mov|mkv|webm|wav|mp3|flac|ogg|m4a"
"""Endings of names of media files, as a regular expression."""
MEDIA_MARK_HINT = r"^\s*<(?:image|video|audio)>|\n\s*<(?:image|video|audio)>\s*$|</img>"
_MARK = r"<(?:image|video|audio)>"
_OPENING = re.compile(rf"\s*(?P<found>{_MARK})(?:\s*{_MARK})*(?:\s*\n|\s*\Z|(?=[^\W_a-z]))")
"""Alone in its line, or directly before the first word; `<video> does not play` is a sentence."""
_CLOSING = re.compile(rf"\n[ \t]*(?P<found>{_MARK})\s*\Z")
_PATH = re.compile(
    rf"^(?:(?:Picture|Image|Audio|Video) ?\d*: ?)?(?P<found><img>)[^<>\n]{{1,500}}\.(?:{MEDIA_FILES})</img>",
    re.IGNORECASE | re.MULTILINE,
)
_MARKUP = re.compile(r"</(?!img>)\w|<!|<\w+ \w+=")
"""Closing tags, comments and attributes: the text is HTML or XML, or contains some."""


def find_media_mark(text: str) -> str:
    """Find the mark of a picture, a video or sound where prose and markup have no tag."""
    for found in (_OPENING.match(text), _CLOSING.search(text), _PATH.search(text)):
        if found and not _MARKUP.search(text) and "```" not in text:
            return found["found"]
    return ""
