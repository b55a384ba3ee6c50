from __future__ import annotations

from typing import Any

import pytest

from schemas.rows.recognition import recognise
from schemas.rows.row import Conversation, Conversion, SourceRow
from schemas.rule_ids import RowRule
from tests.support.messages import ANSWER, USER

CHAT: dict[str, Any] = {"messages": [USER, ANSWER]}
QUIET = {**ANSWER, "weight": 0}


def read(row: dict[str, Any]) -> tuple[Conversation, list[tuple[str, str]]]:
    found, _, violations = recognise(SourceRow("a.jsonl", 1, row))
    assert found is not None
    return found, [(str(violation.rule), violation.detail) for violation in violations]


@pytest.mark.parametrize("name", ["masked", "ignore_loss", "noTrain"])
def test_flag_with_the_opposite_meaning_is_read(name: str) -> None:
    assert read({**CHAT, name: True})[0].messages == [USER, {**ANSWER, "weight": 0}]
    found, broken = read({**CHAT, name: False})
    assert (found.messages, broken) == ([USER, ANSWER], [])


@pytest.mark.parametrize("value", ["User", True, [0, 1]])
def test_mask_of_a_row_is_named_since_it_may_mean_either(value: Any) -> None:
    found, [(rule, detail)] = read({**CHAT, "mask": value})
    assert (found.messages, rule) == ([USER, ANSWER], RowRule.FIELD_NOT_USED)
    assert detail.startswith("mask of a row")
    assert read({**CHAT, "mask": None})[1] == []


@pytest.mark.parametrize("name", ["sample_weight", "example_weight", "loss_weight"])
def test_weight_under_another_name_is_none_or_one(name: str) -> None:
    assert read({**CHAT, name: 0.2})[1] == [("field_not_used", f"{name} 0.2 of a row")]
    assert read({**CHAT, name: 1.0})[1] == []
    assert read({**CHAT, name: 0})[0].messages == [USER, {**ANSWER, "weight": 0}]


@pytest.mark.parametrize("name", ["do_learn", "train_on_this", "isMaskedOut", "with_loss"])
def test_column_like_a_loss_flag_is_named(name: str) -> None:
    assert read({**CHAT, name: False})[1] == [("field_not_used", f"{name} false of a row")]
    assert read({**CHAT, name: "yes"})[1] == []


@pytest.mark.parametrize("name", ["is_glossary", "verified", "constraint", "damask"])
def test_column_of_another_meaning_is_only_listed(name: str) -> None:
    found, broken = read({**CHAT, name: False})
    assert (found.unused_fields, broken) == ((name,), [])


def test_weight_of_a_row_is_none_or_one() -> None:
    assert read({**CHAT, "weight": 0})[0].messages == [USER, QUIET]
    assert read({**CHAT, "weight": 1.0})[0].messages == [USER, ANSWER]
    assert read({**CHAT, "weight": 0.5})[1] == [("field_not_used", "weight 0.5 of a row")]
    assert read({**CHAT, "weight": "3 kg"})[0].unused_fields == ("weight",)


@pytest.mark.parametrize("value", [0, "0", "false", "False"])
def test_flag_of_a_row_may_be_written_as_a_table_does(value: Any) -> None:
    assert read({**CHAT, "train": value})[0].messages == [USER, QUIET]
    assert read({**CHAT, "weight": "0"})[0].messages == [USER, QUIET]
    assert read({**CHAT, "loss": 0})[0].messages == [USER, ANSWER], "a measured loss may be 0"


def test_mask_has_one_value_for_each_message() -> None:
    assert read({**CHAT, "loss_mask": [0, 1]})[0].messages == [USER, ANSWER]
    detail = "loss_mask with 3 values for 2 messages"
    assert read({**CHAT, "loss_mask": [0, 1, 1]})[1] == [(RowRule.FIELD_NOT_USED, detail)]
    found, [(rule, _)] = read({**CHAT, "loss_mask": [0, 2]})
    assert (found.messages, rule) == ([USER, ANSWER], RowRule.FIELD_NOT_USED)


def test_conversion_of_a_flag_is_listed() -> None:
    assert Conversion.LOSS_FLAGS in read({**CHAT, "weight": 0})[0].conversions
    assert Conversion.LOSS_FLAGS in read({**CHAT, "loss_mask": [0, 0]})[0].conversions
    assert read({**CHAT, "weight": 1})[0].conversions == ()


def test_mask_may_be_json_text() -> None:
    assert read({**CHAT, "loss_mask": "[0, 0]"})[0].messages == [USER, QUIET]
