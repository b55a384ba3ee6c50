from __future__ import annotations

import copy
from typing import Any

import pytest

from schemas.rows.message_fields import (
    loss_flags,
    note_media,
    other_fields,
    read_fields,
    take_tools,
)
from schemas.rows.row import Conversion
from schemas.rule_ids import RowRule, Violation
from tests.support.messages import ANSWER, SYSTEM, USER


def read(message: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    found = copy.deepcopy(message)
    notes: list[Any] = []
    read_fields(found, notes)
    return found, notes


@pytest.mark.parametrize(
    "flag", ["loss", "train", "training", "trainable", "is_trainable", "loss_mask", "loss_scale"]
)
@pytest.mark.parametrize("value", [False, 0, 0.0])
def test_flag_of_another_trainer_becomes_weight_0(flag: str, value: Any) -> None:
    assert read({**ANSWER, flag: value}) == ({**ANSWER, "weight": 0}, [Conversion.LOSS_FLAGS])
    assert read({**USER, flag: value}) == (USER, [Conversion.LOSS_FLAGS])
    assert read({**ANSWER, flag: True}) == (ANSWER, [Conversion.LOSS_FLAGS])


@pytest.mark.parametrize(
    "message",
    [
        {**ANSWER, "loss": "false"},
        {**ANSWER, "loss_scale": 0.5},
        {**ANSWER, "loss": [False]},
        {**ANSWER, "loss": True, "weight": 0},
        {**ANSWER, "loss": True, "train": False},
        {**USER, "train": True},
    ],
)
def test_flag_that_cannot_be_a_weight_stays_for_the_rule_on_weights(message: Any) -> None:
    assert read(message) == (message, [])
    assert loss_flags(message)


def test_flag_and_weight_that_agree_are_one_weight() -> None:
    assert read({**ANSWER, "loss": False, "weight": 0})[0] == {**ANSWER, "weight": 0}
    assert read({**ANSWER, "loss": True, "weight": 1})[0] == {**ANSWER, "weight": 1}


@pytest.mark.parametrize("name", ["reasoning", "thinking", "thought"])
def test_reasoning_under_another_name_is_renamed(name: str) -> None:
    thought = {**ANSWER, "reasoning_content": "So."}
    assert read({**ANSWER, name: "So."}) == (thought, [Conversion.REASONING])
    assert read({**thought, name: "So."}) == (thought, [Conversion.REASONING])
    assert read({**ANSWER, name: ""}) == (ANSWER, [])


@pytest.mark.parametrize(
    "message",
    [
        {**ANSWER, "reasoning_content": "So.", "thinking": "Or so."},
        {**USER, "thinking": "So."},
        {**ANSWER, "thinking": True},
    ],
)
def test_reasoning_that_is_not_read_is_listed(message: dict[str, Any]) -> None:
    assert read(message) == (message, ["messages[].thinking"])


def test_fields_of_the_canonical_form_are_not_noted() -> None:
    message = {**ANSWER, "name": "Ada", "weight": 1, "reasoning_content": "So.", "tool_calls": []}
    assert read(message) == (message, [])
    assert read({**ANSWER, "mood": "glad"})[1] == ["messages[].mood"]
    assert other_fields({**ANSWER, "mood": "glad", "loss": True}) == ("mood",)


def test_pictures_of_a_message_are_reported_unless_there_are_none() -> None:
    [note] = read({**USER, "images": ["a.png"]})[1]
    assert note == Violation(RowRule.NEEDS_MEDIA, "a message has images")
    assert read({**USER, "images": []})[1] == []


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image"}, "image"),
        ({"type": "image_url", "image_url": {"url": "a.png"}}, "image_url"),
        ({"type": "input_audio", "input_audio": {"data": ""}}, "input_audio"),
        ({"type": "video", "video": "a.mp4"}, "video"),
        ({"image": {"format": "png"}}, "image"),
    ],
)
def test_parts_with_pictures_are_reported(part: Any, kind: str) -> None:
    notes: list[Any] = []
    note_media([{"type": "text", "text": "Look."}, part], notes)
    assert notes == [Violation(RowRule.NEEDS_MEDIA, f"a part of type {kind} in a message")]


def test_parts_of_text_are_not_reported() -> None:
    notes: list[Any] = []
    note_media(["a", {"type": "text", "text": "b", "image": None}, {"type": "thinking"}], notes)
    assert notes == []


def test_parts_of_a_turn_that_are_trained_are_named() -> None:
    [note] = read({**ANSWER, "train_detail": [{"begin_offset": 0, "end_offset": 3}]})[1]
    assert note.rule is RowRule.FIELD_NOT_USED
    assert "train_detail" in note.detail
    assert read({**ANSWER, "train_detail": []})[1] == []


def test_tools_are_taken_from_the_first_message() -> None:
    tools = [{"name": "measure"}]
    messages: list[Any] = [{**SYSTEM, "tools": tools}, USER]
    assert take_tools(messages) == tools
    assert messages == [SYSTEM, USER]
    assert take_tools(messages) is None
    assert take_tools([]) is take_tools(["Hi."]) is None
    unreadable: list[Any] = [{**SYSTEM, "tools": "a hammer"}]
    assert take_tools(unreadable) is None
    assert unreadable == [{**SYSTEM, "tools": "a hammer"}]
