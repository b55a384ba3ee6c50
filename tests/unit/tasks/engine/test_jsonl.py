from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schemas.base import Record
from tasks.engine.jsonl import append_record, json_line, read_jsonl, read_records, write_jsonl


class Line(Record):
    text: str


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": 1}, {"a": "ö\u2028"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
    assert json_line("ö") == '"ö"\n'


def test_records_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.jsonl"
    assert read_records(path, Line) == []
    for text in ("one", "two\u2028\n", "three"):
        append_record(path, Line(text=text))
    assert [line.text for line in read_records(path, Line)] == ["one", "two\u2028\n", "three"]


@pytest.mark.parametrize("n_bytes", range(1, 15))
def test_a_line_cut_off_anywhere_is_skipped_and_costs_no_other(
    tmp_path: Path, n_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.jsonl"
    append_record(path, Line(text="one"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:n_bytes])
    append_record(path, Line(text="two"))
    found = [line.text for line in read_records(path, Line)]
    if n_bytes == len(whole) - 1:  # only the line feed was lost
        assert found == ["one", "one", "two"]
        return
    assert found == ["one", "two"]
    assert f"{path}, line 2 cannot be read and is skipped" in caplog.text


@pytest.mark.parametrize("junk", [b"\x00" * 9, b"\xff\xfe\n", b"{}\n", b"[1]\n", b"\n\n"])
def test_other_damage_is_skipped_too(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(junk)
    append_record(path, Line(text="one"))
    assert [line.text for line in read_records(path, Line)] == ["one"]


def test_an_append_is_one_write_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    write = os.write

    def counted(descriptor: int, content: bytes) -> int:
        writes.append(content)
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", counted)
    append_record(tmp_path / "journal.jsonl", Line(text="one"))
    assert writes == [b'{"text":"one"}\n']


def test_lines_of_several_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    texts = [str(number) * 3000 for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: append_record(path, Line(text=text)), texts))
    assert sorted(line.text for line in read_records(path, Line)) == sorted(texts)
