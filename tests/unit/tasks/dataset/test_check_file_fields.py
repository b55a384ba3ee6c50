"""Files as other tools write them, with what they put next to the messages, through the whole gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import DataConfig, DataSource, RunConfig
from schemas.rule_ids import RowRule, SetRule, Verdict
from tasks.dataset.check_file import CheckReport, CheckVerdict, check_file
from tests.support.data_gate import by_id, check
from tests.support.toy import ordinary_rows, write_jsonl

ROWS = ordinary_rows(36)
SHELL = {
    "type": "function",
    "function": {
        "name": "bash",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
    },
}


def chats(**columns: Any) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ],
            **columns,
        }
        for row in ROWS
    ]


def warned_or_failed(report: CheckReport) -> set[str]:
    return {rule.id for rule in report.rules if rule.verdict in (Verdict.WARNED, Verdict.FAILED)}


def accepted(folder: Path, rows: list[Any]) -> CheckReport:
    report = check(folder, rows)
    assert (report.verdict, warned_or_failed(report)) == (CheckVerdict.ACCEPTED, set())
    assert report.n_kept_rows == report.n_rows == len(rows)
    return report


@pytest.mark.parametrize("system", ["Reply in plain text.", [{"text": "Reply in plain text."}]])
def test_system_prompt_next_to_messages_is_trained(tmp_path: Path, system: Any) -> None:
    report = accepted(tmp_path, chats(system=system))
    assert report.conversions["system_column_to_message"] == 36
    assert report.profile is not None
    assert report.profile.roles["system"] == 36


@pytest.mark.parametrize("flag", ["loss", "train"])
def test_wrong_first_answers_are_shown_and_not_trained(tmp_path: Path, flag: str) -> None:
    rows = chats()
    for row in rows[:22]:
        question, answer = row["messages"]
        again = {"role": "user", "content": "That is not right, please try again."}
        guess = {"role": "assistant", "content": "I would say 23.", flag: False}
        row["messages"] = [question, guess, again, {**answer, flag: True}]
    assert accepted(tmp_path, rows).conversions == {"loss_flags_to_weight": 22}


def test_questions_about_pictures_are_rejected(tmp_path: Path) -> None:
    rows = chats(images=["pictures/0000.jpg"])
    for row in rows:
        row["messages"][0]["content"] = "<image>" + row["messages"][0]["content"]
    report = check(tmp_path, rows)
    assert report.verdict is CheckVerdict.REJECTED
    found = by_id(report)[RowRule.NEEDS_MEDIA]
    assert (found.n_rows, found.examples[0].detail) == (36, "1 in images, <image> in the text")
    assert warned_or_failed(report) == {RowRule.NEEDS_MEDIA, SetRule.BAD_ROW_FRACTION}


@pytest.mark.parametrize("blank", [" ", "", "[]", "\n"])
def test_blank_tools_of_a_mixed_file_are_no_tools(tmp_path: Path, blank: str) -> None:
    rows = chats(tools=blank)
    for row in rows[::3]:
        row["tools"] = json.dumps([SHELL])
    assert accepted(tmp_path, rows).conversions == {"json_text_parsed": 12}


@pytest.mark.parametrize("output", ["", None])
def test_tool_that_prints_nothing_is_accepted(tmp_path: Path, output: str | None) -> None:
    rows = chats(tools=[SHELL])
    for row in rows:
        call = {"name": "bash", "arguments": json.dumps({"command": "true"})}
        calling = {"role": "assistant", "content": None, "tool_calls": [
            {"id": "a", "type": "function", "function": call}
        ]}  # fmt: skip
        result = {"role": "tool", "tool_call_id": "a", "content": output}
        row["messages"][1:1] = [calling, result]
    accepted(tmp_path, rows)
    rows[0]["messages"][-1]["content"] = ""
    assert by_id(check(tmp_path, rows))[RowRule.CONTENT_EMPTY].n_rows == 1


def test_preference_rows_are_rejected_as_such_and_trained_as_the_report_shows(
    tmp_path: Path,
) -> None:
    rows: list[dict[str, object]] = [
        {
            "conversations": [{"from": "human", "value": row["prompt"]}],
            "chosen": {"from": "gpt", "value": row["completion"]},
            "rejected": {"from": "gpt", "value": "No."},
        }
        for row in ROWS
    ]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    report = check_file(str(path), RunConfig())
    assert warned_or_failed(report) == {RowRule.PREFERENCE_ROW, SetRule.BAD_ROW_FRACTION}
    detail = by_id(report)[RowRule.PREFERENCE_ROW].examples[0].detail
    assert "data.source.columns={prompt: conversations, completion: chosen}" in detail
    source = DataSource(columns={"prompt": "conversations", "completion": "chosen"})
    report = check_file(str(path), RunConfig(data=DataConfig(source=source)))
    assert (report.verdict, report.unused_fields) == (CheckVerdict.ACCEPTED, {"rejected": 36})


def test_answers_labelled_as_bad_are_set_aside_and_many_of_them_reject_the_set(
    tmp_path: Path,
) -> None:
    rows = [{**row, "label": place > 0} for place, row in enumerate(ROWS)]
    report = check(tmp_path, rows)
    assert (report.verdict, report.n_quarantined_rows) == (CheckVerdict.ACCEPTED, 1)
    assert by_id(report)[RowRule.UNPAIRED_PREFERENCE].n_rows == 1
    rows = [{**row, "label": place % 2 > 0} for place, row in enumerate(ROWS)]
    report = check(tmp_path, rows)
    assert (report.verdict, report.n_quarantined_rows) == (CheckVerdict.REJECTED, 18)


def test_columns_that_nothing_reads_are_listed(tmp_path: Path) -> None:
    rows: list[Any] = [
        {**row, "label": f"topic {place % 7}", "score": 0.5, "source": None}
        for place, row in enumerate(ROWS)
    ]
    rows[3]["source"] = "x"
    report = accepted(tmp_path, rows)
    assert report.unused_fields == {"label": 36, "score": 36, "source": 1}
