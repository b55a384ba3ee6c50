from __future__ import annotations

from typing import Any

import pytest

from schemas.rows.recognition import recognise
from schemas.rows.row import SourceRow
from schemas.rule_ids import RowRule
from tests.support.messages import ANSWER, USER

MARKED = {"role": "user", "content": "<image> How tall?"}


def rules(row: dict[str, Any]) -> list[str]:
    return [str(violation.rule) for violation in recognise(SourceRow("a.jsonl", 1, row))[2]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_path", "train2017/1.jpg"),
        ("imagePath", "1.jpg"),
        ("video_file", "clips/1.mp4"),
        ("audio_paths", ["1.wav", "2.wav"]),
        ("photo_file", "a.PNG"),
    ],
)
def test_file_in_a_column_of_another_name_is_named(name: str, value: Any) -> None:
    assert rules({"messages": [USER, ANSWER], name: value}) == [RowRule.NEEDS_MEDIA]


@pytest.mark.parametrize("value", ["https://example.com/soup.jpg", ["https://example.com/a.jpg"]])
def test_address_is_named_only_if_the_text_has_a_placeholder(value: Any) -> None:
    assert rules({"messages": [MARKED, ANSWER], "image_url": value}) == [RowRule.NEEDS_MEDIA]
    assert rules({"messages": [USER, ANSWER], "image_url": value}) == []


@pytest.mark.parametrize(
    ("message", "value", "detail"),
    [
        (USER, [{"bytes": "x"}], "1 in images"),
        (USER, {"bytes": "x"}, "an object in images"),
        (USER, " a.jpg ", "a text in images"),
        (USER, "data:image/png;base64,AA\nBB", "a text in images"),
        (MARKED, "https://example.com/a", "a text in images, <image> in the text"),
        (MARKED, [3], "1 in images, <image> in the text"),
        (MARKED, [None, {}], "<image> in the text, and images is empty"),
        (MARKED, {"bytes": None, "path": ""}, "<image> in the text, and images is empty"),
    ],
)
def test_detail_says_what_is_in_the_column_and_in_the_text(
    message: dict[str, Any], value: Any, detail: str
) -> None:
    row = {"messages": [message, ANSWER], "images": value}
    [found] = recognise(SourceRow("a.jsonl", 1, row))[2]
    assert (found.rule, found.detail) == (RowRule.NEEDS_MEDIA, detail)


@pytest.mark.parametrize(
    "value", [[], {}, [None, ""], {"bytes": None}, 3, [1, 0.5], "a", "https://a/b.jpg"]
)
def test_other_values_are_no_media(value: Any) -> None:
    assert rules({"messages": [USER, ANSWER], "images": value}) == []


@pytest.mark.parametrize("row", [{"image_path": ""}, {"image_file": None}, {"video_name": "a.mp4"}])
def test_empty_and_other_columns_are_no_media(row: dict[str, Any]) -> None:
    assert rules({"messages": [USER, ANSWER], **row}) == []
