from __future__ import annotations

from schemas.rows.plain_rows import Rows, decode_plain
from schemas.rows.recognised_rows import recognise_rows
from schemas.rows.row import RowFormat, SourceRow

LINE = b'{"messages": [{"role": "user", "content": "2 m?"}, {"role": "assistant", "content": "6.56 ft"}]}'


def test_only_rows_that_are_not_plain_are_recognised() -> None:
    other = SourceRow("a.jsonl", 2, {"prompt": "2 m?", "completion": "6.56 ft"})
    found = recognise_rows(Rows("a.jsonl", [decode_plain(LINE), other], [1, 2]))
    assert found.others.keys() == {1}
    [(plain, _, none), (pair, _, _)] = found
    assert plain is not None
    assert pair is not None
    assert (plain.format, pair.format) == (RowFormat.MESSAGES, RowFormat.PROMPT_COMPLETION)
    assert plain.messages == pair.messages
    assert (plain.line, none) == (1, [])
