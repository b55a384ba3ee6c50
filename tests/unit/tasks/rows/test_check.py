from __future__ import annotations

import errno
import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.synchronize import SemLock
from pathlib import Path
from typing import Any

import orjson
import pytest

import tasks.rows.check
import tasks.sources._line_blocks
from schemas.errors import ConfigError, SftFlowError
from schemas.rows.row import RowFormat
from schemas.rule_ids import RowRule, RuleExample, Severity
from schemas.rules.row_rules import row_severities
from tasks.rows.check import (
    MAX_PROCESSES,
    BlockOutcome,
    CheckRequest,
    check_block,
    check_blocks,
    n_processes,
)
from tasks.rows.features import FeatureRequest
from tasks.sources._compression import DataFile
from tasks.sources._line_blocks import read_line_blocks
from tasks.sources.parsing import Block
from tests.support.toy import as_messages, toy_rows, write_jsonl

REQUEST = CheckRequest(row_severities({}))
BAD = {"messages": [{"role": "user", "content": "a"}]}
NUL = "a\x00"

KEY = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" * 2


def block_of(*rows: Any, first_line: int = 1) -> Block:
    return Block("a.jsonl", first_line, b"".join(orjson.dumps(row) + b"\n" for row in rows))


def pair(prompt: str, completion: str = "Two.") -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


def summary(outcome: BlockOutcome) -> dict[str, Any]:
    features = outcome.features
    columns = {} if features is None else features.columns
    return {
        **vars(outcome),
        "features": {name: values.tolist() for name, values in columns.items()},
        "roles": features and features.roles,
    }


def test_counts_places_and_lines_of_a_block() -> None:
    text = orjson.dumps(pair("a")) + b"\n\nnot json\n" + orjson.dumps(BAD) + b"\n"
    outcome = check_block(Block("a.jsonl", 11, text), REQUEST)
    assert (outcome.n_rows, outcome.n_kept_rows) == (3, 1)
    assert outcome.formats == {"prompt_completion": 1, "messages": 1}
    assert outcome.n_broken == {
        RowRule.UNPARSEABLE_LINE: 1,
        RowRule.MIXED_FORMAT: 1,
        RowRule.NO_ASSISTANT_TURN: 1,
    }
    assert outcome.examples[RowRule.NO_ASSISTANT_TURN] == [
        RuleExample(file="a.jsonl", line=14, detail="no assistant turn; the roles are user")
    ]
    assert [(found.line, found.detail.split(":")[0]) for found in outcome.first_quarantined] == [
        (13, "unparseable_line"),
        (14, "mixed_format"),
    ]
    assert (outcome.kept, outcome.repaired, outcome.features) == (b"", b"", None)


def test_fields_that_nothing_reads_are_counted_per_row() -> None:
    messages = [{"role": "user", "content": "a", "mood": "glad"}] * 2
    rows = [{**pair("a"), "id": 1}, {**pair("b"), "id": None}, {"messages": messages, "id": 2}]
    outcome = check_block(block_of(*rows), REQUEST)
    assert outcome.unused_fields == {"id": 2, "messages[].mood": 1}


def test_row_set_aside_is_written_with_its_place_rules_reason_and_content() -> None:
    outcome = check_block(block_of(pair("a"), BAD, first_line=5), REQUEST)
    assert json.loads(outcome.quarantine) == {
        "file": "a.jsonl",
        "line": 6,
        "rules": ["mixed_format", "no_assistant_turn"],
        "reason": "mixed_format: messages, the first row is prompt_completion; "
        "no_assistant_turn: no assistant turn; the roles are user",
        "row": BAD,
    }


def test_five_places_a_rule_are_kept_and_every_row_counted() -> None:
    outcome = check_block(block_of(*[None] * 7), REQUEST)
    assert outcome.n_broken == {RowRule.NOT_AN_OBJECT: 7}
    assert [found.line for found in outcome.examples[RowRule.NOT_AN_OBJECT]] == [1, 2, 3, 4, 5]
    assert [found.line for found in outcome.first_quarantined] == [1, 2, 3, 4, 5]
    assert len(outcome.quarantine.splitlines()) == 7


def test_warned_row_is_counted_and_kept() -> None:
    outcome = check_block(block_of(pair("Dear {{name}}")), REQUEST)
    assert outcome.n_broken == {RowRule.UNRENDERED_PLACEHOLDER: 1}
    assert (outcome.n_kept_rows, outcome.quarantine, outcome.first_quarantined) == (1, "", [])


def test_kept_rows_are_given_in_canonical_form_where_asked() -> None:
    outcome = check_block(
        block_of(pair("a"), BAD, pair("b")), replace(REQUEST, has_conversations=True)
    )
    kept = [json.loads(line) for line in outcome.kept.splitlines()]
    assert [row["line"] for row in kept] == [1, 3]
    assert kept[0] == {
        "file": "a.jsonl",
        "line": 1,
        "format": "prompt_completion",
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "Two."},
        ],
        "n_prompt_messages": 1,
        "tools": None,
        "columns": {},
    }


def test_repaired_rows_are_given_as_they_were_but_for_the_repairs() -> None:
    rows: list[Any] = [
        {**pair("\ufeffa\r\nb"), "sources": ["x"]},
        {"messages": [{"role": "Human", "content": "a"}, {"role": "gpt", "content": "b"}]},
        BAD,
    ]
    outcome = check_block(block_of(*rows), replace(REQUEST, is_repaired=True))
    assert [json.loads(line) for line in outcome.repaired.splitlines()] == [
        {**pair("a\nb"), "sources": ["x"]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ]
    assert outcome.conversions == {
        "repaired_byte_order_mark": 1,
        "repaired_crlf": 1,
        "repaired_role_alias": 2,
    }
    unrepaired = check_block(block_of(*rows), REQUEST)
    assert unrepaired.n_broken[RowRule.ENCODING_DAMAGE] == 1
    assert unrepaired.n_broken[RowRule.UNKNOWN_ROLE] == 1
    assert unrepaired.n_kept_rows == 0


def test_conversions_are_counted_by_row() -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    chat = [{"role": "user", "content": parts}, {"role": "assistant", "content": parts}]
    rows = [
        {"conversations": turns},
        {"conversations": json.dumps(turns)},
        {"instruction": "a", "output": "b"},
        {"messages": chat},
        pair("a"),
    ]
    assert check_block(block_of(*rows), REQUEST).conversions == {
        "sharegpt_to_messages": 2,
        "json_text_parsed": 1,
        "alpaca_to_messages": 1,
        "text_parts_joined": 1,
    }


def test_byte_order_marks_at_the_start_of_lines_are_ignored_and_counted() -> None:
    mark = b"\xef\xbb\xbf"
    lines = b"".join(mark + orjson.dumps(row) + b"\r\n" for row in toy_rows(2))
    outcome = check_block(Block("a.jsonl", 1, lines), REQUEST)
    assert (outcome.n_kept_rows, outcome.conversions) == (2, {"byte_order_mark_ignored": 2})


def test_column_names_are_gathered_where_columns_are_mapped() -> None:
    block = replace(block_of({"q": "a", "a": "b"}, 3), columns={"prompt": "q", "completion": "a"})
    outcome = check_block(block, REQUEST)
    assert (outcome.n_kept_rows, outcome.n_objects, outcome.names) == (1, 1, {"q", "a"})


@pytest.mark.parametrize(
    "text", ['["\\ud800"]', "[9e999]", f"[{10**30}]", "[" * 300 + "]" * 300, '[{"a": 1, "a": 2}]']
)
def test_json_text_that_could_not_be_written_again_never_stops_the_check(text: str) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "a", "arguments": text}]}
    user = {"role": "user", "content": "a"}
    rows = [
        {"messages": text},
        {"conversations": text},
        {"prompt": text, "completion": "b"},
        {"messages": [user, call]},
        {"messages": [user, {**call, "tool_calls": text}]},
        {"messages": [user, {"role": "assistant", "content": "b"}], "tools": text},
        {"instruction": "a", "output": "b", "history": text},
    ]
    request = replace(REQUEST, has_conversations=True, is_repaired=True, features=FeatureRequest())
    outcome = check_block(block_of(*rows), request)
    assert outcome.n_rows == 7
    assert outcome.n_kept_rows + len(outcome.quarantine.splitlines()) == 7
    # As a plain text such a prompt does no harm.
    assert 3 in [json.loads(line)["line"] for line in outcome.kept.splitlines()]


@pytest.mark.parametrize("lines", [b"", b"null\n", b"\x00\n", b"{}\n", b'{"messages": []}\n'])
def test_block_without_a_usable_row_has_features_of_nothing(lines: bytes) -> None:
    request = replace(REQUEST, features=FeatureRequest(similarity=0.8, has_sample=True))
    features = check_block(Block("a.jsonl", 1, lines), request).features
    assert features is not None
    assert features.signatures is not None
    assert {name: values.tolist() for name, values in features.columns.items()} == {
        name: [] for name in features.columns
    }
    assert len(features.signatures) == 0


def test_first_format_of_the_first_block_is_what_later_ones_are_compared_with() -> None:
    rows = toy_rows(2)
    blocks = [block_of(None), block_of(*rows, first_line=2), block_of(*as_messages(rows))]
    outcomes = list(check_blocks(blocks, REQUEST, processes=1))
    assert [outcome.n_broken[RowRule.MIXED_FORMAT] for outcome in outcomes] == [0, 0, 2]
    forced = replace(REQUEST, first_format=RowFormat.MESSAGES)
    outcomes = list(check_blocks(blocks, forced, processes=1))
    assert [outcome.n_broken[RowRule.MIXED_FORMAT] for outcome in outcomes] == [0, 2, 0]


def test_no_blocks_have_no_outcome() -> None:
    assert list(check_blocks([], REQUEST)) == []


@pytest.fixture
def is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes however little there is to do."""
    monkeypatch.setattr(tasks.rows.check, "WORTH_BYTES", 1)


@pytest.mark.usefixtures("is_eager")
@pytest.mark.parametrize("row", [toy_rows(1)[0], {"unknown": 1}])
def test_blocks_are_not_gathered(row: Any) -> None:
    read: list[int] = []

    def blocks() -> Iterator[Block]:
        for number in range(1, 10):
            read.append(number)
            yield block_of(row, first_line=number)

    outcomes = check_blocks(blocks(), REQUEST, processes=1)
    ahead = [len(read) - number for number, _ in enumerate(outcomes, start=1)]
    assert max(ahead) <= 1
    assert len(ahead) == 9


@pytest.mark.usefixtures("is_eager")
def test_two_processes_find_what_one_finds_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = [
        *toy_rows(60),
        *as_messages(toy_rows(10)),
        BAD,
        7,
        pair(NUL),
        pair("{{a_b}}"),
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    monkeypatch.setattr(tasks.sources._line_blocks, "BLOCK_BYTES", path.stat().st_size // 3)
    blocks = list(read_line_blocks(DataFile(path, "a.jsonl")))
    assert len(blocks) > 2
    request = CheckRequest(
        row_severities({}),
        features=FeatureRequest(has_sample=True),
        has_conversations=True,
    )
    one = [summary(found) for found in check_blocks(iter(blocks), request, processes=1)]
    two = [summary(found) for found in check_blocks(iter(blocks), request, processes=2)]
    assert one == two
    assert sum(found["n_rows"] for found in two) == 74
    lines = [json.loads(line)["line"] for found in two for line in found["kept"].splitlines()]
    assert lines == [*range(1, 71), 74]
    aside = [json.loads(line) for found in two for line in found["quarantine"].splitlines()]
    assert [(row["line"], row["row"]) for row in aside] == [(71, BAD), (72, 7), (73, pair(NUL))]
    assert sum(found["n_broken"][RowRule.MIXED_FORMAT] for found in two) == 11


@pytest.mark.usefixtures("is_eager")
def test_killed_process_ends_the_check_with_a_message() -> None:
    blocks = (block_of(*toy_rows(1), first_line=number) for number in range(1, 500))
    outcomes = check_blocks(blocks, REQUEST, processes=2)
    assert [next(outcomes).n_rows, next(outcomes).n_rows] == [1, 1]
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    workers[0].kill()
    with pytest.raises(SftFlowError, match="was killed") as caught:
        list(outcomes)
    assert caught.value.fix == "free memory, then run again"


@pytest.mark.usefixtures("is_eager")
def test_stopping_early_leaves_no_process_behind() -> None:
    blocks = (block_of(*toy_rows(1), first_line=number) for number in range(1, 100))
    outcomes = check_blocks(blocks, REQUEST, processes=2)
    next(outcomes)
    next(outcomes)
    assert multiprocessing.active_children()
    outcomes.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_switched_off_pandera_refuses_to_check_before_a_row_is_read() -> None:
    from pandera.config import config_context

    with config_context(validation_enabled=False), pytest.raises(ConfigError) as caught:
        next(check_blocks(iter([block_of(*toy_rows(1))]), REQUEST))
    assert caught.value.where == "environment variable PANDERA_VALIDATION_ENABLED"


def test_little_is_checked_without_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.rows.check, "_in_processes", None)
    # A file of many lines whose last one lacks its line feed comes in two blocks.
    blocks = [block_of(*toy_rows(50)), block_of(*toy_rows(1), first_line=51)]
    outcomes = list(check_blocks(blocks, REQUEST, processes=8))
    assert [outcome.n_kept_rows for outcome in outcomes] == [50, 1]


def test_rules_that_are_off_set_no_row_aside() -> None:
    request = CheckRequest(dict.fromkeys(RowRule, Severity.OFF), has_conversations=True)
    outcome = check_block(block_of(BAD, pair(NUL), pair("")), request)
    assert (outcome.n_kept_rows, outcome.n_broken, outcome.quarantine) == (3, {}, "")


def test_processes_are_as_many_as_processors_but_no_more_than_eight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.rows.check.count_processors", lambda: 3)
    assert n_processes() == 3
    monkeypatch.setattr("tasks.rows.check.count_processors", lambda: 64)
    assert n_processes() == MAX_PROCESSES == 8


@pytest.mark.usefixtures("is_eager")
def test_without_semaphores_rows_are_checked_in_one_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(SemLock, "__init__", refuse)
    monkeypatch.setattr(tasks.rows.check, "_in_processes", None)
    blocks = [block_of(*toy_rows(50)), block_of(*toy_rows(9), first_line=51)]
    assert [outcome.n_rows for outcome in check_blocks(blocks, REQUEST, processes=2)] == [50, 9]
    assert "in one process" in caplog.text
