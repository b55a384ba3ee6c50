from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.rows.json_schema import accepted_formats_schema
from schemas.rows.recognition import recognise
from schemas.rows.row import RowFormat, SourceRow
from tests.support.messages import ANSWER, SYSTEM, USER
from tests.support.parts import DEMO_ROWS

HUMAN = {"from": "human", "value": "How tall is the wall?"}
GPT = {"from": "gpt", "value": "Two metres."}
CALL = {"id": "x1", "type": "function", "function": {"name": "measure", "arguments": {}}}
TEXT_CALL = {"type": "function", "function": {"name": "measure", "arguments": '{"part": "wall"}'}}
BARE_CALL = {"name": "measure", "arguments": {"part": "wall"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "2", "tool_call_id": "x1"}
TOOL = {"type": "function", "function": {"name": "measure", "parameters": {"type": "object"}}}
BARE_TOOL = {"name": "measure", "parameters": {"type": "object"}}
PARTS = [{"type": "text", "text": "How tall "}, "is it?"]
PAIR = {"prompt": "How tall?", "completion": "Two metres."}
ALPACA = {"instruction": "Name the colour.", "input": "the sea", "output": "Blue."}


def chat(*messages: Any, **columns: Any) -> dict[str, Any]:
    return {"messages": list(messages), **columns}


def said(*turns: Any, **columns: Any) -> dict[str, Any]:
    return {"conversations": list(turns), **columns}


ACCEPTED: list[tuple[RowFormat, dict[str, Any]]] = [
    (RowFormat.MESSAGES, chat(USER, ANSWER)),
    (RowFormat.MESSAGES, chat(SYSTEM, USER, ANSWER, topic="walls", prompt=None)),
    (RowFormat.MESSAGES, chat({"role": "developer", "content": "Be brief."}, USER, ANSWER)),
    (RowFormat.MESSAGES, chat({"role": "system", "content": ""}, USER, ANSWER)),
    (RowFormat.MESSAGES, chat({"role": "user", "content": PARTS}, ANSWER)),
    (RowFormat.MESSAGES, chat(USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1.0})),
    (RowFormat.MESSAGES, chat({**USER, "weight": None, "tool_calls": None}, ANSWER)),
    (RowFormat.MESSAGES, chat({**USER, "weight": 0, "loss": False}, {**ANSWER, "loss": True})),
    (RowFormat.MESSAGES, chat(USER, CALLING, {**RESULT, "content": ""}, ANSWER, tools=" ")),
    (RowFormat.MESSAGES, chat({"role": "user", "content": [{"text": "How tall?"}]}, ANSWER)),
    (RowFormat.MESSAGES, chat(USER, ANSWER, system="Be brief.", functions=[BARE_TOOL])),
    (RowFormat.MESSAGES, chat(USER, CALLING, RESULT, ANSWER, tools=[TOOL])),
    (RowFormat.MESSAGES, chat(USER, CALLING, RESULT, ANSWER, tools=json.dumps([TOOL]))),
    (RowFormat.MESSAGES, chat(USER, {**ANSWER, "tool_calls": [TEXT_CALL]}, tools=[BARE_TOOL])),
    (RowFormat.MESSAGES, chat(USER, {"role": "assistant", "tool_calls": [BARE_CALL]})),
    (RowFormat.MESSAGES, chat(USER, {**ANSWER, "tool_calls": []}, tools=None)),
    (RowFormat.PROMPT_COMPLETION, PAIR),
    (RowFormat.PROMPT_COMPLETION, {**PAIR, "messages": None, "score": 3}),
    (RowFormat.PROMPT_COMPLETION, {"prompt": [SYSTEM, USER], "completion": [ANSWER]}),
    (RowFormat.PROMPT_COMPLETION, {"prompt": [USER], "completion": "Two metres."}),
    (RowFormat.SHAREGPT, said(HUMAN, GPT)),
    (RowFormat.SHAREGPT, said({"from": "system", "value": "Be brief."}, HUMAN, GPT)),
    (RowFormat.SHAREGPT, said(HUMAN, GPT, system="Be brief.", tools="[]", messages=None)),
    (RowFormat.SHAREGPT, said({**HUMAN, "weight": 0}, {**GPT, "weight": 1})),
    (RowFormat.SHAREGPT, said({"role": "human", "content": "Hi."}, {**ANSWER, "role": "gpt"})),
    (
        RowFormat.SHAREGPT,
        said(
            HUMAN,
            {"from": "function_call", "value": json.dumps(BARE_CALL)},
            {"from": "observation", "value": "2"},
            GPT,
            tools=json.dumps([BARE_TOOL]),
        ),
    ),
    (RowFormat.SHAREGPT, said(HUMAN, {"from": "function_call", "value": [BARE_CALL]})),
    (RowFormat.ALPACA, ALPACA),
    (RowFormat.ALPACA, {**ALPACA, "input": "", "system": None, "history": None}),
    (RowFormat.ALPACA, {**ALPACA, "instruction": ""}),
    (RowFormat.ALPACA, {**ALPACA, "system": "Be brief.", "history": [["How tall?", "2 m"]]}),
]

REFUSED: list[Any] = [
    [PAIR],
    "How tall?",
    None,
    {},
    {"prompt": "How tall?"},
    {"prompt": "How tall?", "completion": " \n"},
    {"prompt": "How tall?", "completion": None},
    {"prompt": 3, "completion": "Two metres."},
    {"prompt": [USER], "completion": [USER]},
    {"prompt": [USER], "completion": [SYSTEM, ANSWER]},
    {"prompt": [], "completion": "Two metres."},
    chat(),
    chat(USER),
    chat(USER, ANSWER, **PAIR, tools=3),
    chat("Hi.", ANSWER),
    chat(USER, SYSTEM, ANSWER),
    chat({"role": "User", "content": "How tall?"}, ANSWER),
    chat({"role": "user"}, ANSWER),
    chat({"role": "user", "content": None}, ANSWER),
    chat({"role": "user", "content": ""}, ANSWER),
    chat({"role": "user", "content": [{"type": "image_url"}]}, ANSWER),
    chat({"role": "user", "content": [{"type": "text", "text": " "}]}, ANSWER),
    chat({"role": "user", "content": []}, ANSWER),
    chat({"role": "user", "content": [{"text": "How tall?", "url": "a.png"}]}, ANSWER),
    chat({**USER, "weight": 1}, ANSWER),
    chat({**USER, "train": True}, ANSWER),
    chat(USER, {**ANSWER, "loss": "no"}),
    chat(USER, {**ANSWER, "content": [{"type": "text", "value": "Two metres."}]}),
    chat({**USER, "tool_calls": [CALL]}, ANSWER),
    chat(USER, {**ANSWER, "weight": 0.5}),
    chat(USER, {**ANSWER, "weight": True}),
    chat(USER, {"role": "assistant", "content": None}),
    chat(USER, {"role": "assistant", "content": "", "tool_calls": []}),
    chat(USER, {**ANSWER, "tool_calls": [{"function": {"arguments": {}}}]}),
    chat(USER, {**ANSWER, "tool_calls": [{"function": {"name": "measure"}}]}),
    chat(USER, {**ANSWER, "tool_calls": [{"name": "measure", "arguments": "wall"}]}),
    chat(USER, {**ANSWER, "tool_calls": "measure"}),
    chat(USER, ANSWER, tools=[{"type": "function", "function": {}}]),
    chat(USER, ANSWER, tools=[{"name": "measure", "parameters": "{}"}]),
    said(),
    said(HUMAN),
    said(HUMAN, {"from": "critic", "value": "Well."}),
    said({"from": "human"}, GPT),
    said(HUMAN, {"from": "system", "value": "Be brief."}, GPT),
    said({**HUMAN, "weight": 1}, GPT),
    said(HUMAN, {**GPT, "weight": 2}),
    said(HUMAN, {"from": "function_call", "value": "measure the wall"}),
    said(HUMAN, GPT, system=3),
    said(HUMAN, GPT, tools=3),
    {"instruction": "Name the colour."},
    {**ALPACA, "output": ""},
    {**ALPACA, "instruction": "", "input": ""},
    {**ALPACA, "instruction": 3},
    {**ALPACA, "history": [["How tall?"]]},
    {**ALPACA, "history": "earlier"},
]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(accepted_formats_schema())


def test_schema_is_a_schema_that_says_what_it_is() -> None:
    schema = accepted_formats_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert {"$id", "title", "description"} <= schema.keys()
    assert json.loads(json.dumps(schema)) == schema


def test_every_definition_is_used_and_every_reference_leads_somewhere() -> None:
    schema = accepted_formats_schema()
    text = json.dumps(schema)
    used = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert used == set(schema["$defs"])


@pytest.mark.parametrize(("_", "row"), ACCEPTED)
def test_schema_accepts_every_format(
    _: RowFormat, row: dict[str, Any], validator: Draft202012Validator
) -> None:
    assert [error.message for error in validator.iter_errors(row)] == []


@pytest.mark.parametrize("row", REFUSED, ids=repr)
def test_schema_refuses_near_misses(row: Any, validator: Draft202012Validator) -> None:
    assert not validator.is_valid(row)


@pytest.mark.parametrize(("row_format", "row"), ACCEPTED)
def test_what_the_schema_accepts_is_recognised(row_format: RowFormat, row: dict[str, Any]) -> None:
    conversation, _, violations = recognise(SourceRow("a.jsonl", 1, row))
    assert violations == []
    assert conversation is not None
    assert conversation.format == row_format


def test_the_examples_in_the_schema_are_accepted_and_recognised(
    validator: Draft202012Validator,
) -> None:
    schema = accepted_formats_schema()
    for reference in schema["anyOf"]:
        name = reference["$ref"].rsplit("/", 1)[-1]
        for row in schema["$defs"][name]["examples"]:
            assert validator.is_valid(row)
            assert recognise(SourceRow("a.jsonl", 1, row))[2] == []


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("faq-en.jsonl", {"q": "prompt", "a": "completion"}),
        ("faq-en-sharegpt.jsonl", {}),
        ("faq-en-alpaca.jsonl", {}),
    ],
)
def test_schema_accepts_the_construction_faq(
    name: str, columns: dict[str, str], validator: Draft202012Validator
) -> None:
    DEMO_ROWS.require()
    spec = importlib.util.find_spec("zaragoza_construction_faq")
    assert spec is not None
    assert spec.origin is not None
    lines = (Path(spec.origin).parent / "data" / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) > 200
    for line in lines:
        row = {columns.get(key, key): value for key, value in json.loads(line).items()}
        assert validator.is_valid(row)
