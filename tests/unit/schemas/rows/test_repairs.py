from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.rows.repairs import Repair, repair_row

MARK = "\ufeff"


def repaired(row: Any) -> tuple[Any, dict[Repair, int]]:
    """Repair a row and check that the given one is unchanged."""
    before = copy.deepcopy(row)
    found, made = repair_row(row)
    assert row == before
    return found, dict(made)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c"}]},
        {"prompt": "a", "completion": "b"},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"instruction": "a", "input": None, "output": "b", "history": [["a", "b"]]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}]},
        {"topic": f"{MARK}a\r\nb"},
        {"messages": "[]", "conversations": None, "history": "a"},
        {"messages": [None, 3, "a", {"role": 3, "content": 4}]},
        {"messages": [{"role": "critic", "content": "a"}]},
        {"prompt": "a\rb"},
        ["a\r\n"],
        "a\r\n",
        None,
    ],
)
def test_repair_row_returns_the_very_same_row_where_nothing_is_to_repair(row: Any) -> None:
    found, made = repair_row(row)
    assert found is row
    assert not made


@pytest.mark.parametrize(
    "name", ["prompt", "completion", "instruction", "input", "output", "system"]
)
def test_repair_row_repairs_every_column_of_text(name: str) -> None:
    found, made = repaired({name: f"{MARK}a\r\nb\r\n{MARK}", "topic": "c\r\n"})
    assert found == {name: "a\nb\n", "topic": "c\r\n"}
    assert made == {Repair.BYTE_ORDER_MARK: 1, Repair.CRLF: 1}


@pytest.mark.parametrize("name", ["messages", "prompt", "completion"])
def test_repair_row_repairs_contents_and_text_parts(name: str) -> None:
    image = {"type": "image_url", "text": "b\r\n"}
    found, made = repaired(
        {
            name: [
                {"role": "user", "content": "a\r\n", "name": "b\r\n"},
                {"role": "user", "content": [{"type": "text", "text": f"{MARK}a"}, "b\r\n", image]},
            ]
        }
    )
    assert found == {
        name: [
            {"role": "user", "content": "a\n", "name": "b\r\n"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b\n", image]},
        ]
    }
    assert made == {Repair.CRLF: 2, Repair.BYTE_ORDER_MARK: 1}


def test_repair_row_repairs_turns_and_history() -> None:
    found, made = repaired({"conversations": [{"from": "human", "value": "a\r\n"}]})
    assert found == {"conversations": [{"from": "human", "value": "a\n"}]}
    assert made == {Repair.CRLF: 1}
    found, made = repaired({"instruction": "a", "output": "b", "history": [["c\r\n", f"{MARK}d"]]})
    assert found == {"instruction": "a", "output": "b", "history": [["c\n", "d"]]}
    assert made == {Repair.CRLF: 1, Repair.BYTE_ORDER_MARK: 1}


def test_repair_row_copies_only_what_changes() -> None:
    clean = {"role": "user", "content": "a"}
    row = {"messages": [clean, {"role": "bot", "content": "b"}], "sources": ["c"]}
    found, _ = repaired(row)
    assert found["messages"][0] is clean
    assert found["sources"] is row["sources"]


@pytest.mark.parametrize(
    ("alias", "role"),
    [
        ("human", "user"),
        ("User", "user"),
        ("USER", "user"),
        (" user ", "user"),
        (f"{MARK}user", "user"),
        ("gpt", "assistant"),
        ("bot", "assistant"),
        ("model", "assistant"),
        ("AI", "assistant"),
        ("Assistant", "assistant"),
        ("System", "system"),
        ("Developer", "developer"),
        ("function", "tool"),
        ("ipython", "tool"),
        ("observation", "tool"),
    ],
)
def test_repair_row_renames_known_roles(alias: str, role: str) -> None:
    for name in ("messages", "prompt", "completion"):
        found, made = repaired({name: [{"role": alias, "content": "a"}]})
        assert found == {name: [{"role": role, "content": "a"}]}
        assert made == {Repair.ROLE_ALIAS: 1}


@pytest.mark.parametrize(
    ("alias", "name"),
    [("Human", "human"), ("GPT ", "gpt"), ("ai", "gpt"), ("Function_Call", "function_call")],
)
def test_repair_row_renames_known_names_of_turns(alias: str, name: str) -> None:
    found, made = repaired({"conversations": [{"from": alias, "value": "a"}]})
    assert found == {"conversations": [{"from": name, "value": "a"}]}
    assert made == {Repair.ROLE_ALIAS: 1}


@pytest.mark.parametrize("name", ["critic", "function", ""])
def test_repair_row_leaves_names_of_turns_that_it_does_not_know(name: str) -> None:
    row = {"conversations": [{"from": name, "value": "a"}]}
    assert repair_row(row)[0] is row


JSON = st.recursive(
    st.none() | st.integers() | st.sampled_from((MARK, "a\r\n", " User", "b")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("messages", "prompt", "history", "role", "content", "type", "text")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=200, database=None, derandomize=True, deadline=None)
@given(JSON)
def test_repair_row_takes_any_json_and_has_nothing_left_to_do(row: Any) -> None:
    once, _ = repaired(row)
    again, made = repair_row(once)
    assert again is once
    assert not made
