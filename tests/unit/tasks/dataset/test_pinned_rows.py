from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import DataSource, SplitConfig
from schemas.errors import DataRejected, DataSourceError
from schemas.rule_ids import RowRule, RuleSetting, Severity
from tasks.dataset import pinned_rows
from tasks.dataset.pinned_rows import PinnedRules, pinned_fingerprint
from tests.support.toy import as_messages, toy_rows, write_jsonl

ANSWER = {"role": "assistant", "content": "Two metres."}
NO_ANSWER = {"messages": [{"role": "user", "content": "How tall?"}]}


def write_pinned(source: DataSource, path: Path, **rules: Any) -> int:
    return pinned_rows.write_pinned(source, path, PinnedRules(**rules))


def source(path: Path, rows: list[Any]) -> DataSource:
    return DataSource(source=str(write_jsonl(path, rows)))


def test_rows_of_any_format_are_written_in_canonical_form(tmp_path: Path) -> None:
    rows: list[Any] = [*toy_rows(2), *as_messages(toy_rows(1))]
    assert write_pinned(source(tmp_path / "a.jsonl", rows), tmp_path / "out") == 3
    written = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [(row["file"], row["line"], row["format"]) for row in written] == [
        ("a.jsonl", 1, "prompt_completion"),
        ("a.jsonl", 2, "prompt_completion"),
        ("a.jsonl", 3, "messages"),
    ]
    assert written[0]["messages"] == written[2]["messages"]


def test_written_rows_can_be_pinned_again_without_a_change(tmp_path: Path) -> None:
    write_pinned(source(tmp_path / "a.jsonl", toy_rows(3)), tmp_path / "eval.jsonl")
    write_pinned(DataSource(source=str(tmp_path / "eval.jsonl")), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "eval.jsonl").read_bytes()


def test_row_that_warns_is_pinned(tmp_path: Path) -> None:
    rows = [*toy_rows(1), {"prompt": "Dear {{name}}, how tall?", "completion": "Two metres."}]
    assert write_pinned(source(tmp_path / "a.jsonl", rows), tmp_path / "out") == 2


def test_bad_row_is_refused_with_its_line_and_no_word_of_warnings(tmp_path: Path) -> None:
    rows: list[Any] = [{"prompt": "{{a_name}}?", "completion": "Two."}, *toy_rows(2), NO_ANSWER]
    with pytest.raises(DataRejected) as caught:
        write_pinned(source(tmp_path / "a.jsonl", rows), tmp_path / "out")
    text = str(caught.value)
    assert "1 of 4 rows in the pinned evaluation set" in text
    assert "no_assistant_turn (limit 0)" in text
    assert "line 4: no assistant turn; the roles are user" in text
    assert "unrendered_placeholder" not in text
    assert "mixed_format" not in text
    assert "Where: split.pinned" in text
    assert "Fix: " in text


def test_rules_of_the_data_count_for_pinned_rows(tmp_path: Path) -> None:
    twice = {"messages": [{"role": "user", "content": "a"}] * 2 + [ANSWER]}
    pinned = source(tmp_path / "a.jsonl", [*as_messages(toy_rows(1)), twice])
    with pytest.raises(DataRejected, match="roles_not_alternating"):
        write_pinned(pinned, tmp_path / "out")
    rules = {RowRule.ROLES_NOT_ALTERNATING: RuleSetting(severity=Severity.WARN)}
    assert write_pinned(pinned, tmp_path / "out", rules=rules) == 2
    stricter = {RowRule.UNRENDERED_PLACEHOLDER: RuleSetting(severity=Severity.BLOCK)}
    placeholder = source(tmp_path / "b.jsonl", [{"prompt": "{{a_name}}?", "completion": "b"}])
    with pytest.raises(DataRejected, match="unrendered_placeholder"):
        write_pinned(placeholder, tmp_path / "out", rules=stricter)


def test_markers_of_the_model_are_looked_for_in_pinned_rows(tmp_path: Path) -> None:
    pinned = source(tmp_path / "a.jsonl", [{"prompt": "a [END_OF] b", "completion": "c"}])
    assert write_pinned(pinned, tmp_path / "out") == 1
    with pytest.raises(DataRejected, match="special_token_injection"):
        write_pinned(pinned, tmp_path / "out", special_tokens=("[END_OF]",))


@pytest.mark.parametrize("name", ["absent.jsonl", "empty.jsonl"])
def test_missing_or_empty_file_is_an_input_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataSourceError):
        write_pinned(DataSource(source=str(tmp_path / name)), tmp_path / "out")


def test_fingerprint_follows_the_content_of_the_pinned_rows(tmp_path: Path) -> None:
    def fingerprint(rows: list[Any]) -> str:
        pinned = source(tmp_path / "a.jsonl", rows)
        return pinned_fingerprint({"split": SplitConfig(pinned=pinned)})

    first = fingerprint(toy_rows(3))
    assert fingerprint(toy_rows(4)) != first
    assert fingerprint(toy_rows(3)) == first
    assert pinned_fingerprint({"split": SplitConfig()}) == ""
