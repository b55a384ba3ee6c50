"""Whatever stands in a file, the row check ends with every row counted, kept or set aside."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.rows.row import ROLES, RowFormat, SourceRow
from schemas.rule_ids import RowRule, Severity
from schemas.rules.check_rows import check_rows
from schemas.rules.row_rules import row_severities
from tasks.rows.check import BlockOutcome, CheckRequest, check_block
from tasks.rows.features import FeatureRequest
from tasks.rows.tally import RowTally
from tasks.sources._compression import DataFile
from tasks.sources._line_blocks import read_line_blocks
from tasks.sources.parsing import Block, parse_block

PROFILE = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
REQUEST = CheckRequest(
    row_severities({}),
    special_tokens=("<|stop|>",),
    features=FeatureRequest(has_sample=True),
    has_conversations=True,
)

Values = st.SearchStrategy[Any]
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False)
# Half of a surrogate pair cannot stand in a file of UTF-8.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values: Values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)

said = st.sampled_from(
    ["Two metres.", "", " ", "None", "<|im_end|>", "{{name}}", "a\x00b", "caf\ufffd", "[1]", "{"]
)
names = st.sampled_from(["measure", "weigh", "", None])
arguments: Values = st.sampled_from([None, "{}", "{", '{"unit": 1}', {"unit": "m"}, {}, [], 3])
tool_calls = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(["1", "2", None, 3]),
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {}, optional={"name": names, "arguments": arguments, "parameters": arguments}
            )
            | values,
            "name": names,
            "arguments": arguments,
        },
    )
    | values,
    max_size=3,
)
contents: Values = said | st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": said}) | said
)
contents = contents | values
messages = st.fixed_dictionaries(
    {"role": st.sampled_from([*ROLES, "human", "gpt", "", None]), "content": contents},
    optional={
        "tool_calls": tool_calls | values,
        "function_call": values,
        "tool_call_id": st.sampled_from(["1", "2", None, 3]),
        "name": names,
        "weight": st.sampled_from([0, 1, 0.0, 2, True, None, "1"]),
        "reasoning_content": said,
    },
)
turns = st.fixed_dictionaries(
    {
        "from": st.sampled_from(["human", "gpt", "system", "function_call", "observation", "x", 1]),
        "value": said | st.just('[{"name": "measure", "arguments": {}}]') | values,
    },
    optional={"weight": st.sampled_from([0, 1, None, 7])},
)
dialogue = st.tuples(said, said, said, said).map(
    lambda four: [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant") * 2, four, strict=True)
    ]
)
conversations = dialogue | st.lists(messages | messages | values, max_size=5)
tools = st.lists(
    st.fixed_dictionaries({"name": names, "parameters": values}, optional={"function": values}),
    max_size=2,
)
near_misses = st.fixed_dictionaries(
    {},
    optional={
        "messages": conversations | conversations.map(json.dumps) | values,
        "prompt": said | conversations | conversations.map(json.dumps) | values,
        "completion": said | conversations | values,
        "conversations": st.lists(turns | values, max_size=5) | values,
        "instruction": said | values,
        "input": said | values,
        "output": said | values,
        "system": said | values,
        "history": st.lists(st.lists(said, max_size=3) | values, max_size=2) | values,
        "tools": tools | tools.map(json.dumps) | values,
        "topic": values,
    },
)
canonical = st.fixed_dictionaries(
    {
        "file": st.just("b.jsonl") | values,
        "line": st.just(1) | values,
        "format": st.sampled_from([*map(str, RowFormat)]) | values,
        "messages": conversations,
        "n_prompt_messages": st.sampled_from([None, 0, 1, 9, -1]) | values,
        "tools": st.none() | tools | values,
        "columns": st.dictionaries(texts, scalars, max_size=2) | values,
    }
)
rows_of_any_kind = st.lists(near_misses | canonical, min_size=1, max_size=4)


def block_of(rows: list[Any]) -> Block:
    return Block("a.jsonl", 1, b"".join(orjson.dumps(row) + b"\n" for row in rows))


def accounted(outcome: BlockOutcome, n_rows: int) -> list[Any]:
    """Check that every row is kept or set aside, and give the kept ones."""
    kept = [json.loads(line) for line in outcome.kept.splitlines()]
    quarantined = [json.loads(line) for line in outcome.quarantine.split("\n")[:-1]]
    assert outcome.n_rows == n_rows
    assert len(kept) == outcome.n_kept_rows
    assert len(kept) + len(quarantined) == n_rows
    assert len({row["line"] for row in quarantined}) == len(quarantined)
    assert all(row["rules"] and row["reason"] for row in quarantined)
    assert outcome.features is not None
    assert outcome.features.columns["line"].tolist() == [row["line"] for row in kept]
    tally = RowTally({})
    tally.add(outcome)
    for result in tally.results():
        json.loads(result.model_dump_json())
    return kept


@PROFILE
@given(st.lists(values, max_size=4))
def test_any_json_value_is_kept_or_set_aside(rows: list[Any]) -> None:
    assert len(accounted(check_block(block_of(rows), REQUEST), len(rows))) <= len(rows)


@PROFILE
@given(rows_of_any_kind)
def test_kept_rows_are_kept_again_as_they_are(rows: list[Any]) -> None:
    kept = accounted(check_block(block_of(rows), REQUEST), len(rows))
    assert all(row["messages"] and isinstance(row["messages"], list) for row in kept)
    lines = [{**row, "file": "a.jsonl", "line": number} for number, row in enumerate(kept, start=1)]
    again = accounted(check_block(block_of(lines), REQUEST), len(lines))
    assert again == lines


@PROFILE
@given(rows_of_any_kind)
def test_repaired_rows_are_kept_and_need_no_repair(rows: list[Any]) -> None:
    request = CheckRequest(row_severities({}), has_conversations=True, is_repaired=True)
    outcome = check_block(block_of(rows), request)
    repaired = [json.loads(line) for line in outcome.repaired.splitlines()]
    assert len(repaired) == outcome.n_kept_rows
    again = check_block(block_of(repaired), request)
    assert again.n_kept_rows == len(repaired)
    assert [json.loads(line) for line in again.repaired.splitlines()] == repaired
    assert not [name for name in again.conversions if name.startswith("repaired_")]


@PROFILE
@given(
    st.binary(max_size=60)
    | st.lists(near_misses, max_size=3).map(lambda rows: block_of(rows).lines[:-9])
)
def test_any_bytes_are_lines_that_are_kept_or_set_aside(
    tmp_path_factory: Any, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(content)
    blocks = list(read_line_blocks(DataFile(path, "bytes.jsonl")))
    for block in blocks:
        outcome = check_block(block, REQUEST)
        accounted(outcome, outcome.n_rows)
        assert outcome.n_rows <= content.count(b"\n") + 1


plain = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": texts | said}),
            min_size=1,
            max_size=4,
        )
    }
)


@PROFILE
@given(st.lists(plain | near_misses, min_size=1, max_size=6), st.sampled_from([*RowFormat, None]))
def test_typed_rows_are_checked_as_parsed_ones(
    rows: list[Any], first_format: RowFormat | None
) -> None:
    block = block_of(rows)
    read = [*parse_block(block).rows]
    assert [*parse_block(block, is_typed=True).rows] == read
    request = replace(REQUEST, first_format=first_format)
    typed = check_block(block, request)
    # Rows that are given next to lines are not parsed again.
    parsed = check_block(Block("a.jsonl", 1, rows=tuple(read)), request)
    assert typed.features is not None
    assert parsed.features is not None
    columns, others = typed.features.columns, parsed.features.columns
    assert {name: column.tolist() for name, column in columns.items()} == {
        name: column.tolist() for name, column in others.items()
    }
    assert typed.features.files == parsed.features.files
    set_aside = [
        list(map(json.loads, found.quarantine.split("\n")[:-1])) for found in (typed, parsed)
    ]
    assert set_aside[0] == set_aside[1]
    assert replace(typed, features=None, quarantine="") == replace(
        parsed, features=None, quarantine=""
    )


@PROFILE
@given(near_misses, st.sampled_from([*RowFormat, None]), st.sets(st.sampled_from(RowRule)))
def test_any_set_of_rules_may_be_off(
    row: Any, first_format: RowFormat | None, off: set[RowRule]
) -> None:
    severities = {**row_severities({}), **dict.fromkeys(off, Severity.OFF)}
    [checked] = check_rows([SourceRow("a.jsonl", 1, row)], severities, first_format)
    assert off.isdisjoint(violation.rule for violation in checked.violations)
