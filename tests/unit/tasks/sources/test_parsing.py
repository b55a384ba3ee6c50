from __future__ import annotations

import gc
import json
import pickle
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.rows.plain_rows import PlainRow
from schemas.rows.row import SourceRow
from tasks.sources.parsing import (
    BLANKS,
    MOST_NAMES,
    MOST_OTHERS,
    Block,
    map_columns,
    parse_block,
    remember_names,
)


def parsed(lines: bytes, **other: Any) -> list[tuple[int, Any]]:
    rows = parse_block(Block("a.jsonl", other.pop("first_line", 1), lines, **other)).rows
    return [(row.line, row.unparseable or row.row) for row in rows]


def test_block_is_parsed_line_by_line_from_its_first_number() -> None:
    lines = b'{"a": 1}\n\n  \r\n[2]\n{"a": "\xc3\xa4"}'
    assert parsed(lines, first_line=7) == [(7, {"a": 1}), (10, [2]), (11, {"a": "ä"})]


def test_typed_rows_end_where_most_rows_are_others() -> None:
    plain = b'{"messages": [{"role": "user", "content": "Hi"}]}\n'
    lines = plain + b'\n{"a": 1}\n' * (MOST_OTHERS + 1) + plain
    rows = parse_block(Block("a.jsonl", 1, lines), is_typed=True).rows
    assert [*rows] == [*parse_block(Block("a.jsonl", 1, lines)).rows]
    assert isinstance(rows.items[0], PlainRow)
    assert isinstance(rows.items[-1], SourceRow)


def test_block_without_lines_has_no_rows() -> None:
    assert parsed(b"") == parsed(b"\n") == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": ', "not JSON: Expecting value at column 7"),
        (b'{"a": "b', "not JSON: Unterminated string starting at column 7"),
        (b'{"a": 1}{', "not JSON: Extra data at column 9"),
        (b'{"a": "\x00"}', "not JSON: Invalid control character at column 8"),
        (b"\x00\x00\x00", "not JSON: Expecting value at column 1"),
        (b"\x89PNG\x1a\xff", "not JSON: Expecting value at column 1"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'"\\ud800"', "holds half of a surrogate pair"),
        (b"1e400", "not JSON: number is infinity when parsed as double"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 300 + b"]" * 300, "nested too deeply"),
        (b'{"a":1,"b":' * 201 + b"1" + b',"c":2}' * 201, "nested too deeply"),
        (b"18446744073709551616", "holds an integer beyond 64 bits"),
        (b'{"a": [1, -9223372036854775809]}', "holds an integer beyond 64 bits"),
        (b"1" * 5000, "holds an integer beyond 64 bits"),
    ],
)
def test_line_that_cannot_be_read_says_why(line: bytes, reason: str) -> None:
    assert parsed(b"1\n" + line + b"\n2") == [(1, 1), (2, reason), (3, 2)]


@pytest.mark.parametrize(
    "line",
    [
        b"18446744073709551615",
        b"-9223372036854775808",
        b'"pi is 3.14159265358979323846264338327950288"',
        b"3.14159265358979323846264338327950288",
        b'{"1234567890123456789012": "a", "b": "[[[[[[[[\\ud83d\\ude00"}',
        b"[" * 200 + b"]" * 200,
        json.dumps({"code": "{}[]" * 500}).encode(),
        json.dumps([[{}]] * 500).encode(),
    ],
)
def test_legal_neighbours_are_read_as_python_reads_them(line: bytes) -> None:
    assert parsed(line) == [(1, json.loads(line))]


def test_damaged_bytes_become_replacement_characters() -> None:
    assert parsed(b'{"a": "gr\xfc\xdfe \xed\xa0\x80"}') == [(1, {"a": "gr��e ���"})]


def test_marks_and_carriage_returns_are_taken_off_and_counted() -> None:
    found = parse_block(Block("a", 1, b'\xef\xbb\xbf{"a": 1}\r\n\xef\xbb\xbf\r\n"x"\r\n'))
    assert [(row.line, row.row) for row in found.rows] == [(1, {"a": 1}), (3, "x")]
    assert (found.n_byte_order_marks, found.n_carriage_returns) == (2, 3)


def test_rows_that_are_no_lines_stand_in_order() -> None:
    unreadable = (SourceRow("a", 2, unparseable="why"), SourceRow("a", 4, unparseable="why"))
    assert parsed(b"1\n\n3", rows=unreadable) == [(1, 1), (2, "why"), (3, 3), (4, "why")]


def test_stored_rows_of_several_files_keep_their_order() -> None:
    rows = tuple(SourceRow(file, line, {"q": 1}) for file in "ab" for line in (1, 2, 3))
    assert [*parse_block(Block("a", 1, rows=rows)).rows] == list(rows)
    mapped = parse_block(Block("a", 1, rows=rows, columns={"prompt": "q"})).rows
    assert [(row.file, row.line) for row in mapped] == [(row.file, row.line) for row in rows]


def test_columns_are_renamed_and_named() -> None:
    block = Block("a", 1, b'{"q": 1, "id": 2}\n3\nno\n', columns={"prompt": "q"})
    found = parse_block(block)
    assert [row.row for row in found.rows] == [{"prompt": 1, "id": 2}, 3, None]
    assert (found.names, found.n_objects) == ({"q", "id"}, 1)


def test_names_are_bounded_but_never_lack_a_mapped_one() -> None:
    seen: set[str] = {str(number) for number in range(MOST_NAMES)}
    remember_names(seen, {"other": 1, "q": 2}, ["q", "a"])
    assert seen - {str(number) for number in range(MOST_NAMES)} == {"q"}


def test_map_columns_renames_and_keeps_what_stood_there() -> None:
    row = {"prompt": "old", "question": "q", "answer": "a", "topic": "t"}
    mapped = map_columns(row, {"prompt": "question", "completion": "answer"})
    assert mapped == {"prompt": "q", "completion": "a", "original_prompt": "old", "topic": "t"}


def test_map_columns_can_swap() -> None:
    row = {"prompt": "1", "completion": "2"}
    mapped = map_columns(row, {"prompt": "completion", "completion": "prompt"})
    assert mapped == {"prompt": "2", "completion": "1"}


def test_block_can_be_sent_to_another_process() -> None:
    block = Block("a", 3, b"{}\n", (SourceRow("a", 4, unparseable="x"),), {"prompt": "q"})
    assert pickle.loads(pickle.dumps(block)) == block  # noqa: S301 - written here


def test_collection_goes_on_after_parsing() -> None:
    parse_block(Block("a", 1, b"{}\n["))
    assert gc.isenabled()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40)), st.integers(min_value=1))
@example([b"\x1c"], 1)  # a blank to Python, not to JSON
def test_any_bytes_give_a_row_for_each_line_with_something_in_it(
    lines: list[bytes], first_line: int
) -> None:
    text = b"\n".join(lines)
    rows = parse_block(Block("a", first_line, text)).rows
    numbers = [row.line for row in rows]
    assert numbers == sorted(set(numbers))
    filled = {
        first_line + place
        for place, line in enumerate(text.split(b"\n"))
        if line.decode(errors="replace").strip(BLANKS)
    }
    assert set(numbers) == filled


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(JSON_VALUES)
def test_any_json_is_read_as_python_reads_it_or_refused(value: Any) -> None:
    line = json.dumps(value)
    [(_, found)] = parsed(line.encode())
    assert found in (json.loads(line), "holds an integer beyond 64 bits")
