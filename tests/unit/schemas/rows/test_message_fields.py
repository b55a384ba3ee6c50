from __future__ import annotations

import copy
from typing import Any

import pytest

from schemas.rows.message_fields import (
    join_reasoning,
    loss_flags,
    note_media,
    other_fields,
    read_fields,
    settle_reasoning,
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


@pytest.mark.parametrize("flag", ["masked", "is_masked", "mask_loss", "ignoreLoss"])
def test_flag_with_the_opposite_meaning_becomes_a_weight(flag: str) -> None:
    assert read({**ANSWER, flag: True}) == ({**ANSWER, "weight": 0}, [Conversion.LOSS_FLAGS])
    assert read({**ANSWER, flag: False}) == (ANSWER, [Conversion.LOSS_FLAGS])
    for value in (True, False):
        assert read({**USER, flag: value}) == (USER, [Conversion.LOSS_FLAGS])
    assert read({**ANSWER, flag: True, "weight": 0})[0] == {**ANSWER, "weight": 0}


@pytest.mark.parametrize("name", ["mask", "train_this", "learnable", "isMaskedOut", "no_loss_here"])
def test_other_field_like_a_loss_flag_is_named(name: str) -> None:
    _, notes = read({**ANSWER, name: True})
    assert notes[0].rule is RowRule.FIELD_NOT_USED
    assert notes[1:] == [f"messages[].{name}"]
    assert read({**ANSWER, name: "so"})[1] == [f"messages[].{name}"]
    assert read({**ANSWER, "constraint": True})[1] == ["messages[].constraint"]


@pytest.mark.parametrize(
    "message",
    [
        {**ANSWER, "masked": True, "weight": 1},
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("thinking", [{"type": "thinking", "thinking": "So.", "signature": "x"}]),
        ("reasoning_details", [{"type": "reasoning.text", "text": "So.", "format": None}]),
        ("thinking_blocks", [{"type": "thinking", "thinking": "So."}]),
        ("reasoning", {"text": "So."}),
    ],
)
def test_reasoning_in_blocks_is_joined(name: str, value: Any) -> None:
    thought = {**ANSWER, "reasoning_content": "So."}
    assert read({**ANSWER, name: value}) == (thought, [Conversion.REASONING])
    assert read({**thought, name: value}) == (thought, [Conversion.REASONING])
    assert join_reasoning([value, "Or so."]) == "So.\n\nOr so."


@pytest.mark.parametrize("value", [[{"type": "encrypted", "data": "x"}], {"effort": "high"}, [3]])
def test_reasoning_in_blocks_without_a_text_is_named(value: Any) -> None:
    _, [violation, name] = read({**ANSWER, "reasoning": value})
    assert (violation.rule, name) == (RowRule.FIELD_NOT_USED, "messages[].reasoning")


def settle(message: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    found = copy.deepcopy(message)
    notes: list[Any] = []
    settle_reasoning(found, notes)
    return found, notes


def test_reasoning_that_the_content_begins_with_is_dropped() -> None:
    content = {"role": "assistant", "content": "<think>\nSo it  is.\n</think>\n\nYes."}
    assert settle({**content, "reasoning_content": "So it is.\n"}) == (
        content,
        [Conversion.REPEATED_REASONING],
    )
    other = {**content, "reasoning_content": "Or not."}
    found, [violation] = settle(other)
    assert (found, violation.rule) == (other, RowRule.FIELD_NOT_USED)
    for message in (
        {**ANSWER, "reasoning_content": "So."},
        {**content, "reasoning_content": ""},
        {**content, "content": "<think>\n\n</think>\n\nYes.", "reasoning_content": "So."},
    ):
        assert settle(message) == (message, [])


def test_reasoning_content_in_blocks_is_joined_or_named() -> None:
    found, notes = settle({**ANSWER, "reasoning_content": [{"thinking": "So."}]})
    assert (found["reasoning_content"], notes) == ("So.", [Conversion.REASONING])
    assert settle({**ANSWER, "reasoning_content": {"data": "x"}})[1][0].rule == "field_not_used"
    assert settle({**ANSWER, "reasoning_content": {}})[1] == []


@pytest.mark.parametrize("name", ["function_calls", "toolCalls", "tool_call"])
def test_calls_under_another_name_are_read_or_named(name: str) -> None:
    call = {"name": "measure", "arguments": {"part": "wall"}}
    found, notes = read({**ANSWER, name: [call]})
    assert found["tool_calls"] == [{"type": "function", "function": call}]
    assert (name in found, notes) == (False, [Conversion.TOOL_CALLS])
    assert read({**ANSWER, name: found["tool_calls"]})[0] == found
    for value in ("measure(part='wall')", [{"part": "wall"}], ["measure"]):
        _, [violation, noted] = read({**ANSWER, name: value})
        assert (violation.rule, noted) == (RowRule.FIELD_NOT_USED, f"messages[].{name}")
    for value in ("", [], "None"):
        assert read({**ANSWER, name: value})[1] == []


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


def test_tools_of_several_messages_have_to_be_the_same() -> None:
    tools = [{"name": "measure"}]
    messages: list[Any] = [SYSTEM, {**USER, "tools": tools}, {**ANSWER, "functions": tools}]
    assert take_tools(messages) == tools
    assert messages == [SYSTEM, USER, ANSWER]
    messages = [{**SYSTEM, "tools": tools}, {**USER, "tools": [{"name": "weigh"}]}]
    before = copy.deepcopy(messages)
    assert take_tools(messages) is None
    assert take_tools(messages, tools) == tools
    assert messages == before


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
