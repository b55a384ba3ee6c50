"""What the gate reads and writes beside its verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

import tasks.dataset.check_file
from schemas.config.run import DataConfig, DataSource, RunConfig
from schemas.errors import DataSourceError
from schemas.rule_ids import RowRule, SetRule
from schemas.rules.check_set import preload
from tasks.dataset.check_file import (
    CheckOptions,
    CheckReport,
    CheckVerdict,
    Scope,
    check_file,
)
from tests.support.data_gate import BAD, ROWS, by_id, check
from tests.support.toy import as_messages, ordinary_rows, write_jsonl


def test_rows_set_aside_are_written_with_file_line_rules_and_reason(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS, BAD])
    with path.open("a") as stream:
        stream.write('"x"\n{"prompt": "cut of')
    report = check_file(str(path), RunConfig(), CheckOptions(folder=folder))
    lines = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
    assert report.n_kept_rows + len(lines) == report.n_rows == 43
    assert [(line["file"], line["line"], line["rules"]) for line in lines] == [
        ("a.jsonl", 41, ["completion_empty"]),
        ("a.jsonl", 42, ["not_an_object"]),
        ("a.jsonl", 43, ["unparseable_line"]),
    ]
    assert [line["row"] for line in lines] == [BAD, "x", None]
    assert lines[1]["reason"] == "not_an_object: the row is a text"
    assert [entry.name for entry in folder.iterdir()] == ["quarantine.jsonl"]


def test_repaired_rows_pass_the_check_that_the_others_failed(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    rows: list[Any] = as_messages(ordinary_rows(40))
    for row in rows[:5]:
        row["messages"][0]["role"] = "Human"
        row["messages"][1]["role"] = "gpt"
    for row in rows[5:8]:
        row["messages"][1]["content"] = "\ufeff" + row["messages"][1]["content"] + "\r\nSo it is."
    rows.append(BAD)
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark + b"".join(orjson.dumps(row) + b"\r\n" for row in rows))
    assert check_file(str(path), RunConfig()).verdict is CheckVerdict.REJECTED

    out = tmp_path / "deep" / "fixed.jsonl"
    report = check_file(str(path), RunConfig(), CheckOptions(repaired=out))
    assert (report.verdict, report.n_kept_rows) == (CheckVerdict.ACCEPTED, 40)
    assert report.conversions == {
        "byte_order_mark_ignored": 1,
        "repaired_byte_order_mark": 3,
        "repaired_crlf": 3,
        "repaired_role_alias": 10,
    }
    text = out.read_bytes()
    assert mark not in text
    assert b"\r" not in text
    assert b"\\r" not in text
    assert [list(json.loads(line)) for line in text.splitlines()] == [["messages"]] * 40
    again = check_file(str(out), RunConfig(), CheckOptions(repaired=tmp_path / "twice.jsonl"))
    assert (again.verdict, again.n_rows, again.n_kept_rows) == (CheckVerdict.ACCEPTED, 40, 40)
    assert again.conversions == {}
    assert (tmp_path / "twice.jsonl").read_bytes() == text


def test_name_alone_is_read_with_the_configured_columns(tmp_path: Path) -> None:
    rows: list[Any] = [{"q": row["prompt"], "a": row["completion"]} for row in ROWS]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    source = DataSource(columns={"prompt": "q", "completion": "a"})
    config = RunConfig(data=DataConfig(source=source))
    assert check_file(str(path), config).verdict is CheckVerdict.ACCEPTED
    wrong = RunConfig(data=DataConfig(source=DataSource(columns={"prompt": "question"})))
    with pytest.raises(DataSourceError, match="has a column question"):
        check_file(str(path), wrong)


def test_several_sources_are_one_set_and_places_name_theirs(tmp_path: Path) -> None:
    rows = ordinary_rows(40)
    asked = [{"q": row["prompt"], "a": row["completion"]} for row in [BAD, *rows[:20]]]
    path = write_jsonl(tmp_path / "a.jsonl", asked)
    other = write_jsonl(tmp_path / "b.jsonl", as_messages(rows[19:]))
    columns = {"prompt": "q", "completion": "a"}
    sources = {
        "new": DataSource.model_validate({"source": str(path), "columns": columns}),
        "old": DataSource(source=str(other)),
    }
    report = check_file(sources, RunConfig())
    assert report.source == f"new={path}, old={other}"
    assert (report.n_rows, report.n_kept_rows) == (42, 41)
    assert report.formats == {"messages": 21, "prompt_completion": 21}
    found = by_id(report)
    assert RowRule.MIXED_FORMAT not in found
    [bad] = found[RowRule.COMPLETION_EMPTY].examples
    assert (bad.file, bad.line) == ("new/a.jsonl", 1)
    [twin] = found[SetRule.DUPLICATE_FRACTION].examples
    assert (twin.file, twin.line) == ("old/b.jsonl", 1)
    with pytest.raises(DataSourceError) as caught:
        check_file({**sources, "zzz": DataSource(source="lost.jsonl")}, RunConfig())
    assert caught.value.where == "data.sources.zzz.source"


def test_missing_file_is_an_input_error_and_leaves_nothing(tmp_path: Path) -> None:
    options = CheckOptions(repaired=tmp_path / "out.jsonl", folder=tmp_path / "report")
    with pytest.raises(DataSourceError):
        check_file(str(tmp_path / "absent.jsonl"), RunConfig(), options)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_secret_stands_nowhere_in_the_report(tmp_path: Path) -> None:
    secret = "AKIA" + "Z7Q2M4X5B3C3D5E6"
    report = check(
        tmp_path, [*ROWS, {"prompt": f"What is {secret}?", "completion": "It is a key."}]
    )
    assert by_id(report)[RowRule.SECRET_OR_PII].n_rows == 1
    assert report.verdict is CheckVerdict.ACCEPTED
    assert secret not in report.model_dump_json()


def test_report_reads_back_from_its_json(tmp_path: Path) -> None:
    report = check(tmp_path, [*ROWS, BAD])
    assert CheckReport.model_validate_json(report.model_dump_json()) == report


def test_set_rules_are_imported_while_rows_are_read_and_not_for_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    monkeypatch.setattr(
        tasks.dataset.check_file, "preload", lambda: (loaded.append(1), preload())[0]
    )
    path = str(write_jsonl(tmp_path / "a.jsonl", ROWS))
    check_file(path, RunConfig(), CheckOptions(Scope.ROWS))
    assert loaded == []
    check_file(path, RunConfig())
    assert loaded == [1]


def test_check_needs_neither_torch_nor_prefect(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    code = (
        "import sys; from schemas.config.run import RunConfig; from tasks.dataset.check_file import check_file; "
        f"check_file({str(path)!r}, RunConfig()); "
        "print([n for n in ('torch', 'prefect', 'transformers', 'mlflow') if n in sys.modules])"
    )
    root = Path(__file__).parents[4]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
