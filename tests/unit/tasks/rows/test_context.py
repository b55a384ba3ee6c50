from __future__ import annotations

from typing import Any

from schemas.rows.row import SourceRow
from schemas.rules.check_rows import CheckedBlock, check_rows
from schemas.rules.row_rules import row_severities
from tasks.rows.context import is_opening, tool_hashes
from tasks.rows.features import FeatureRequest, row_features

TURNS = [{"role": "user", "content": "How tall?"}, {"role": "assistant", "content": "Two metres."}]


def checked(*rows: dict[str, Any]) -> CheckedBlock:
    sources = [SourceRow("a.jsonl", number, row) for number, row in enumerate(rows, start=1)]
    return check_rows(sources, row_severities({}))


def contexts(*rows: dict[str, Any]) -> list[int]:
    return row_features(checked(*rows), FeatureRequest()).columns["context"].tolist()


def asked(system: str, role: str = "system") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": system}, *TURNS]}


def tooled(name: str, **columns: Any) -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": name}}
    return {"messages": TURNS, "tools": [tool], **columns}


def test_context_is_the_system_message_without_its_date() -> None:
    first, same, other, none, developer = contexts(
        asked("Be brief. It is 2026-01-05."),
        asked("be  brief. it is 2025-11-30."),
        asked("Be long."),
        {"messages": TURNS},
        asked("Be long.", "developer"),
    )
    assert first == same != other == developer
    assert none == 0


def test_context_differs_with_the_tools() -> None:
    first, same, other, none = contexts(
        tooled("find"), tooled("find", topic="x"), tooled("weigh"), {"messages": TURNS}
    )
    assert first == same != other
    assert none == 0


def test_tools_are_hashed_of_kept_rows_that_list_some() -> None:
    block = checked({"messages": TURNS}, {"messages": []}, tooled("find"), tooled("find", tools=[]))
    kept = [number for number, (found, _, _) in enumerate(block.recognised) if found is not None]
    assert [place for place, _ in tool_hashes(block, kept)] == [1]


def test_only_system_and_developer_messages_open() -> None:
    frame = checked(asked("Be brief."), asked("Be brief.", "developer")).frame
    assert is_opening(frame).tolist() == [True, False, False] * 2
