from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import DataRejected
from schemas.records.references import CheckedReference, DatasetReference, SourceRows
from schemas.rows.row import SourceRow
from schemas.rule_ids import RowRule, RuleSetting, Severity, Verdict
from tasks.check_schema import check_schema, content_sha256
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.home import work_directory
from tasks.engine.jsonl import json_line
from tasks.engine.keys import StageKey
from tests.support.toy import as_messages, toy_rows

BAD = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}


def dataset_of(rows: list[Any], sizes: tuple[int, ...] = ()) -> DatasetReference:
    output = OutputFolder(StageKey("load_dataset", {"rows": json.dumps(rows)}))
    lines = [SourceRow("a.jsonl", n, row).to_json() for n, row in enumerate(rows, start=1)]
    text = "".join(json_line(line) for line in lines)
    (output.path / "rows.jsonl").write_text(text, encoding="utf-8")
    sources = [SourceRows(name=f"n{size}", source="a", n_rows=size) for size in sizes]
    return output.commit(
        DatasetReference, source="data/a.jsonl", n_rows=len(rows), sources=tuple(sources)
    )


def check(
    rows: list[Any],
    rules: dict[RowRule, RuleSetting] | None = None,
    key: str = "",
    special_tokens: tuple[str, ...] = (),
    sizes: tuple[int, ...] = (),
) -> CheckedReference:
    output = OutputFolder(StageKey("check_schema", {"key": key}))
    dataset = dataset_of(rows, sizes)
    return inspect.unwrap(check_schema.fn)(output, dataset, rules or {}, special_tokens)


def read(reference: CheckedReference, name: str) -> list[Any]:
    return [json.loads(line) for line in locate(reference, name).read_text("utf-8").splitlines()]


def test_format_of_a_row_is_compared_within_its_own_source() -> None:
    rows = [*toy_rows(2), *as_messages(toy_rows(2))]
    assert [found.id for found in check(rows).rules] == [RowRule.MIXED_FORMAT]
    assert check(rows, sizes=(2, 2)).rules == ()


def test_rows_are_parted_and_none_is_lost() -> None:
    rows: list[Any] = [*toy_rows(3), BAD, "x"]
    checked = check(rows)
    assert (checked.n_rows, checked.n_kept_rows, checked.n_quarantined_rows) == (5, 3, 2)
    assert checked.formats == {"messages": 1, "prompt_completion": 3}
    kept = read(checked, "kept.jsonl")
    assert [line["line"] for line in kept] == [1, 2, 3]
    assert kept[0] == {
        "file": "a.jsonl",
        "line": 1,
        "format": "prompt_completion",
        "messages": [
            {"role": "user", "content": rows[0]["prompt"]},
            {"role": "assistant", "content": rows[0]["completion"]},
        ],
        "n_prompt_messages": 1,
        "tools": None,
        "columns": {"topic": rows[0]["topic"]},
    }
    first, second = read(checked, "quarantine.jsonl")
    assert first["rules"] == ["mixed_format", "roles_not_alternating", "no_assistant_turn"]
    assert "roles_not_alternating: user, user" in first["reason"]
    assert (first["line"], first["row"]) == (4, BAD)
    assert second == {
        "file": "a.jsonl",
        "line": 5,
        "rules": ["not_an_object"],
        "reason": "not_an_object: the row is a text",
        "row": "x",
    }


def test_results_count_rows_with_places_and_fix() -> None:
    checked = check([*toy_rows(2), BAD, BAD])
    by_id = {result.id: result for result in checked.rules}
    assert list(by_id) == ["mixed_format", "roles_not_alternating", "no_assistant_turn"]
    result = by_id["roles_not_alternating"]
    assert (result.n_rows, result.fraction, result.verdict) == (2, 0.5, Verdict.FAILED)
    assert [(e.line, e.detail) for e in result.examples] == [(3, "user, user"), (4, "user, user")]
    assert result.fix == "merge or drop these rows"
    assert by_id["mixed_format"].verdict is Verdict.WARNED
    assert [r["id"] for r in json.loads(locate(checked, "rules.json").read_text())] == list(by_id)


def test_warned_row_is_kept_but_counts() -> None:
    rules = {
        RowRule.ROLES_NOT_ALTERNATING: RuleSetting(severity=Severity.WARN),
        RowRule.NO_ASSISTANT_TURN: RuleSetting(severity=Severity.OFF),
    }
    checked = check([BAD], rules)
    assert checked.n_kept_rows == 1
    assert [(r.id, r.verdict) for r in checked.rules] == [("roles_not_alternating", Verdict.WARNED)]


def test_no_usable_row_is_rejected_with_places_and_the_rows_are_kept() -> None:
    with pytest.raises(DataRejected) as caught:
        check([BAD, "x"])
    text = str(caught.value)
    assert text.startswith("DataRejected: none of 2 rows in data/a.jsonl can be used.\n")
    assert (
        "1 of 2 rows in data/a.jsonl broke rule roles_not_alternating (limit 0).\n"
        "  line 1: user, user\n" in text
    )
    assert "Fix: " in text
    evidence = Path(caught.value.where) / "quarantine.jsonl"
    assert len(evidence.read_text().splitlines()) == 2
    assert evidence.is_relative_to(work_directory())


def test_rule_with_a_limit_of_its_own_stops_the_run_beyond_it() -> None:
    def rules(limit: float) -> dict[RowRule, RuleSetting]:
        return {RowRule.ROLES_NOT_ALTERNATING: RuleSetting(limit=limit)}

    assert check([*toy_rows(3), BAD], rules(0.25)).n_kept_rows == 3
    with pytest.raises(DataRejected) as caught:
        check([*toy_rows(3), BAD], rules(0.2))
    assert "1 of 4 rows in data/a.jsonl broke rule roles_not_alternating (limit 0.2)." in str(
        caught.value
    )


def test_same_rows_give_the_same_sha256() -> None:
    rows = [*toy_rows(30), BAD]
    one, two = check(rows, key="one"), check(rows, key="two")
    assert one.sha256 == two.sha256
    assert one.kept_sha256 == two.kept_sha256
    assert one.kept_sha256 != check(rows[1:], key="three").kept_sha256


def test_kept_sha256_is_of_the_content_and_order_of_the_rows(tmp_path: Path) -> None:
    line = '{"file":"%s","line":%d,"format":"messages","messages":[{"content":"%s"}]}'

    def sha256(*rows: tuple[str, int, str]) -> str:
        path = tmp_path / "kept.jsonl"
        path.write_text("\n".join(line % row for row in rows) + "\n", encoding="utf-8")
        return content_sha256(path)

    known = sha256(("a.csv", 1, "x"), ("a.csv", 2, "y"))
    assert sha256(("b.csv", 2, "x"), ('c,\\"format\\":.csv', 9, "y")) == known
    assert sha256(("a.csv", 1, "y"), ("a.csv", 2, "x")) != known
    assert sha256(("a.csv", 1, "x"), ("a.csv", 2, "z")) != known


def test_conversions_are_counted_and_shown() -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    alpaca = {"instruction": "a", "output": "b", "id": 7}
    rows: list[Any] = [*toy_rows(2), {"conversations": turns}, alpaca]
    checked = check(rows)
    assert list(checked.conversions.items()) == [
        ("alpaca_to_messages", 1),
        ("sharegpt_to_messages", 1),
    ]
    assert checked.unused_fields == {"id": 1, "topic": 2}
    assert checked.formats == {"alpaca": 1, "prompt_completion": 2, "sharegpt": 1}


def test_conversions_of_reading_are_kept() -> None:
    rows = [*toy_rows(2), {"instruction": "a", "output": "b"}]
    dataset = dataset_of(rows).model_copy(update={"conversions": {"json_list_split": 3}})
    output = OutputFolder(StageKey("check_schema", {"key": "read"}))
    checked = inspect.unwrap(check_schema.fn)(output, dataset, {}, ())
    assert checked.conversions == {"json_list_split": 3, "alpaca_to_messages": 1}


def test_special_tokens_of_the_model_may_not_stand_in_a_message() -> None:
    rows = [*toy_rows(2), {"prompt": "a", "completion": "b [[stop]]"}]
    assert check(rows).n_kept_rows == 3
    checked = check(rows, key="two", special_tokens=("[[stop]]",))
    assert [(found.id, found.n_rows) for found in checked.rules] == [("special_token_injection", 1)]


def test_secret_stands_in_no_result_or_rules_file() -> None:
    secret = "AKIA" + "Z7Q2M4X5B3C3D5E6"
    checked = check([*toy_rows(2), {"prompt": f"The key is {secret}.", "completion": "b"}])
    assert checked.n_kept_rows == 3
    [result] = checked.rules
    assert (result.id, result.verdict) == (RowRule.SECRET_OR_PII, Verdict.WARNED)
    assert secret not in checked.model_dump_json() + locate(checked, "rules.json").read_text()
