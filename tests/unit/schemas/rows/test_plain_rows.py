from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.rows.plain_rows import NOT_PLAIN, PlainRow, Rows, as_messages, decode_plain
from schemas.rows.row import ROLES, Conversation, RowFormat, SourceRow

TURNS = [{"role": "user", "content": "2 m in ft?"}, {"role": "assistant", "content": "6.56"}]


def plain(messages: Any) -> PlainRow:
    return decode_plain(orjson.dumps({"messages": messages}))


@pytest.mark.parametrize("role", ROLES)
def test_messages_of_a_known_role_and_a_text_are_plain(role: str) -> None:
    messages = [{"role": role, "content": 'Line\n"quoted" é 👍\u0000'}]
    assert as_messages(plain(messages)) == messages


def test_order_of_the_fields_does_not_matter() -> None:
    line = b'{"messages": [{"content": "Hi", "role": "user"}]}\r\n'
    assert list(as_messages(decode_plain(line))[0]) == ["role", "content"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"messages": []}',
        b'{"messages": null}',
        b'{"messages": [null]}',
        b'{"messages": [{"role": "user"}]}',
        b'{"messages": [{"role": "user", "content": null}]}',
        b'{"messages": [{"role": "user", "content": ["Hi"]}]}',
        b'{"messages": [{"role": "human", "content": "Hi"}]}',
        b'{"messages": [{"role": "user", "content": "Hi", "weight": 0}]}',
        b'{"messages": [{"role": "user", "content": "Hi"}], "tools": null}',
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "Hi"}]} {}',
        b'\xef\xbb\xbf{"messages": [{"role": "user", "content": "Hi"}]}',
        b'{"prompt": "Hi", "completion": "Hi"}',
        b"",
    ],
)
def test_any_other_line_is_refused(line: bytes) -> None:
    with pytest.raises(NOT_PLAIN):
        decode_plain(line)


def test_rows_are_made_when_asked_for() -> None:
    other = SourceRow("b.jsonl", 3, {"messages": None})
    rows = Rows("a.jsonl", [plain(TURNS), other], [7, 3])
    assert list(rows) == [SourceRow("a.jsonl", 7, {"messages": TURNS}), other]
    assert rows.conversation(0) == Conversation("a.jsonl", 7, RowFormat.MESSAGES, TURNS)
    assert rows.conversation(1) is None


def test_rows_read_one_by_one_keep_their_places() -> None:
    found = [SourceRow("a.jsonl", 2, 1), SourceRow("b.jsonl", 1, 2)]
    rows = Rows.of(found)
    assert (list(rows), rows.lines, len(rows)) == (found, [2, 1], 2)
