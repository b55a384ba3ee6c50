from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.config.run import DataSource
from schemas.errors import DataSourceError
from schemas.rows.recognition import recognise
from schemas.rows.row import Conversation, RowFormat
from tasks.sources.mixture import origin_fingerprint, read_named_rows, source_name, title
from tasks.sources.source import source_fingerprint
from tests.support.toy import toy_rows, write_jsonl


def test_rows_of_one_source_keep_the_names_of_their_files(tmp_path: Path) -> None:
    source = DataSource(source=str(write_jsonl(tmp_path / "a.jsonl", toy_rows(2))))
    found = [(name, row.file, row.line) for name, row in read_named_rows(source)]
    assert found == [("", "a.jsonl", 1), ("", "a.jsonl", 2)]
    arguments = {"source": source}
    assert origin_fingerprint(arguments) == source_fingerprint(arguments)


def test_sources_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(1))
    sources = {name: DataSource(source=str(path)) for name in ("b", "c", "a")}
    found = [(name, row.file) for name, row in read_named_rows(sources)]
    assert found == [("a", "a/a.jsonl"), ("b", "b/a.jsonl"), ("c", "c/a.jsonl")]
    assert [source_name(file) for _, file in found] == ["a", "b", "c"]


def test_row_that_an_earlier_run_wrote_belongs_to_the_source_it_is_read_from(
    tmp_path: Path,
) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = Conversation("old.csv", 9, RowFormat.MESSAGES, turns).to_json()
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(row) + "\n")
    [(_, found)] = read_named_rows({"mine": DataSource(source=str(path))})
    conversation, _, _ = recognise(found)
    assert conversation is not None
    assert (conversation.file, conversation.line) == ("mine/old.csv", 9)


def test_errors_name_the_settings_of_the_source_that_is_wrong(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(1))
    sources = {
        "good": DataSource(source=str(path)),
        "wrong": DataSource.model_validate({"source": str(path), "columns": {"prompt": "q"}}),
    }
    with pytest.raises(DataSourceError) as caught:
        list(read_named_rows(sources))
    assert caught.value.where == "data.sources.wrong.columns"
    with pytest.raises(DataSourceError) as caught:
        origin_fingerprint({"source": {"lost": DataSource(source="lost.jsonl")}})
    assert caught.value.where == "data.sources.lost.source"


def test_title_holds_no_secret() -> None:
    one = DataSource(source="https://user:pw@host.example/a.jsonl?Signature=x")
    assert title(one) == "https://host.example/a.jsonl"
    both = {"old": DataSource(source="b.jsonl"), "new": one}
    assert title(both) == "new=https://host.example/a.jsonl, old=b.jsonl"


def test_error_that_names_a_place_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(DataSourceError, match="has no row") as caught:
        list(read_named_rows({"empty": DataSource(source=str(tmp_path / "a.jsonl"))}))
    assert caught.value.where == "data.sources.empty"
