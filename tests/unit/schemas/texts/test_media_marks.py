from __future__ import annotations

import re

import pytest

from schemas.texts.media_marks import MEDIA_MARK_HINT, find_media_mark


@pytest.mark.parametrize(
    "text",
    [
        "<image>\nWhat is this?",
        " <image>\n\nWhat is this?",
        "<image>What is this?",
        "<video>这是什么？",
        "<image><image>\nCompare them.",
        "<audio>",
        "What do you hear?\n<audio>",
        "What is this?\n<image>\n",
        "Picture 1: <img>assets/demo.jpeg</img>\nWhat is this?",
        "<img>https://example.com/a.PNG</img>What is this?",
        "Hello.\nImage 2: <img>a.webp</img>",
    ],
)
def test_mark_of_a_picture_is_found(text: str) -> None:
    assert re.search(MEDIA_MARK_HINT, text)
    assert find_media_mark(text) in ("<image>", "<video>", "<audio>", "<img>")


@pytest.mark.parametrize(
    "text",
    [
        "What is the difference between <audio> and <video>",
        "<video> does not play in my page. Why?",
        "<video>s do not play.",
        "<image>\n  <url>https://example.com/a.png</url>\n</image>\nIs this valid RSS?",
        "<video>\n<source src='a.mp4'>\n</video>",
        "```html\n<video>\n```\nIs it closed?",
        "Which element has <img>logo.png</img> in this file?",
        "<item>\n<img>logo.png</img>\n</item>",
        "<img>a picture</img>",
        "Close the tag <image>\nplease.",
        "<picture>\nWhat is it?",
    ],
)
def test_tag_in_prose_or_markup_is_text(text: str) -> None:
    assert find_media_mark(text) == ""
