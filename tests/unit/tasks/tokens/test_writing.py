from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.rule_ids import DataGateMode, RuleSetting, SetRule, Severity
from schemas.rules.set_rules import SET_RULES, set_rule_settings
from tasks.engine.jsonl import json_line
from tasks.tokens.rendering import RenderedRow, Renderer, render_prompt, render_row
from tasks.tokens.writing import (
    BATCH_ROWS,
    RENDERING_RULES,
    SplitTokens,
    TokenOutput,
    dropped_rows,
    token_columns,
    write_tokens,
)
from tests.support.messages import chat


def row(
    n_tokens: int = 6,
    span: tuple[int, int] | None = (2, 5),
    *,
    has_stop: bool = True,
    is_prefix: bool = True,
    n_bos: int = 1,
    found: SetRule | None = None,
) -> RenderedRow:
    findings = {found: "message 1: name"} if found else {}
    spans = (span,) if span else ()
    return RenderedRow([1] * n_tokens, spans, has_stop, is_prefix, n_bos, findings=findings)


# For each token rule: a row that breaks it and its nearest legal neighbour, at most 8 tokens.
CASES = {
    SetRule.NO_SUPERVISED_TOKENS: (row(span=None), row(span=(2, 3))),
    SetRule.STOP_TOKEN_NOT_SUPERVISED: (row(has_stop=False), row()),
    SetRule.PROMPT_NOT_PREFIX: (row(is_prefix=False), row()),
    SetRule.DOUBLE_BOS: (row(n_bos=2), row(n_bos=1)),
    **{rule: (row(found=rule), row()) for rule in RENDERING_RULES},
    SetRule.TOO_LONG: (row(9, (2, 8)), row(8, (2, 8))),
    # Only rows that are too long too can lose the end of their answer.
    SetRule.TRUNCATED_COMPLETION: (row(9, (2, 9)), row(9, (2, 8))),
}
ALSO_BROKEN = {SetRule.TRUNCATED_COMPLETION: {SetRule.TOO_LONG}}


def broken(rendered: RenderedRow) -> set[SetRule]:
    columns = token_columns([rendered], max_length_tokens=8)
    return {
        rule
        for rule, definition in SET_RULES.items()
        if definition.is_token_rule and columns[definition.column][0]
    }


def settings_of(rules: dict[SetRule, RuleSetting]) -> dict[SetRule, RuleSetting]:
    return set_rule_settings(rules, DataGateMode.ENFORCE)


def test_every_token_rule_has_a_case() -> None:
    assert set(CASES) == {rule for rule, found in SET_RULES.items() if found.is_token_rule}


@pytest.mark.parametrize("rule", list(CASES))
def test_token_rule_is_broken_by_its_row_and_not_by_its_neighbour(rule: SetRule) -> None:
    bad, good = CASES[rule]
    also = ALSO_BROKEN.get(rule, set())
    assert broken(bad) == {rule} | also
    assert broken(good) == also


def test_row_without_trained_tokens_breaks_that_rule_only() -> None:
    refused = RenderedRow([], (), False, False, 0, problem="no")
    assert broken(refused) == {SetRule.NO_SUPERVISED_TOKENS}


def test_lengths_are_counted() -> None:
    columns = token_columns([row(), row(7, None, n_bos=300)], 8)
    assert columns["n_tokens"].tolist() == [6, 7]
    assert columns["n_supervised_tokens"].tolist() == [3, 0]
    assert columns["n_bos"].tolist() == [1, 255]
    assert sum(column.itemsize for column in columns.values()) == 18
    assert all(len(column) == 0 for column in token_columns([], 8).values())


@pytest.mark.parametrize(
    ("severity", "expected"),
    [(Severity.BLOCK, True), (Severity.WARN, False), (Severity.OFF, False)],
)
def test_only_rows_that_break_a_blocking_rule_are_dropped(
    severity: Severity, expected: bool
) -> None:
    settings = settings_of({SetRule.TOO_LONG: RuleSetting(severity=severity)})
    columns = token_columns([row(9), row(8)], 8)
    assert dropped_rows(columns, settings).tolist() == [expected, False]


def test_row_with_nothing_to_train_is_dropped_whatever_the_rules_say() -> None:
    settings = set_rule_settings({}, DataGateMode.OFF)
    assert dropped_rows(token_columns([row(span=None), row(9)], 8), settings).tolist() == [
        True,
        False,
    ]


def test_what_was_left_out_of_a_row_is_named_by_its_rule(renderer: Renderer) -> None:
    lost = chat("a", "b")
    lost.messages[1]["reasoning_content"] = "c"
    named = chat("a", "b")
    named.messages[0]["name"] = "Ann"
    settings = set_rule_settings({}, DataGateMode.ENFORCE)
    tokens = write_tokens([chat("a", "b"), lost, named], renderer, settings, 99, TokenOutput())
    assert tokens.columns["is_written"].tolist() == [True, False, True]
    assert tokens.detail(1) == tokens.detail(1, SetRule.CONTENT_NOT_RENDERED)
    assert tokens.detail(1).startswith("message 2: reasoning_content is not in the text")
    assert tokens.detail(2, SetRule.FIELD_NOT_RENDERED).startswith("message 1: name")
    assert tokens.detail(2, SetRule.TOO_LONG) == f"{tokens.columns['n_tokens'][2]} tokens"


def written(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def test_tokens_and_prompts_of_the_rows_that_stay_are_written(
    renderer: Renderer, tmp_path: Path
) -> None:
    rows = [chat("Ä?", "Ja."), chat(7, "refused"), chat("long", "x" * 200), chat("b", "Nein.")]
    paths = (tmp_path / "tokens.parquet", tmp_path / "prompts.jsonl")
    tokens = write_tokens(rows, renderer, settings_of({}), 100, TokenOutput(*paths))
    first, last = render_row(renderer, rows[0]), render_row(renderer, rows[3])
    lines = [
        {"row": number, "input_ids": found.input_ids, "labels": found.labels}
        for number, found in ((0, first), (3, last))
    ]
    assert written(paths[0]) == lines
    prompts = [
        json_line({"row": number, **render_prompt(renderer, rows[number])}) for number in (0, 3)
    ]
    lines_of_prompts = paths[1].read_text(encoding="utf-8").splitlines()
    for text, prompt, number in zip(lines_of_prompts, prompts, (0, 3), strict=True):
        asked = {"messages": rows[number].messages[:1], "tools": None}
        assert json.loads(text) == json.loads(prompt) | asked
    expected = hashlib.sha256()
    for line, prompt in zip(lines, prompts, strict=True):
        expected.update((json.dumps(line) + "\n").encode())
        expected.update(prompt.encode())
    assert tokens.digest.hexdigest() == expected.hexdigest()
    assert tokens.n_rows == 2
    assert tokens.n_tokens == len(first.input_ids) + len(last.input_ids)
    assert tokens.n_supervised_tokens == 4 + 6  # one token a byte, and the stop token
    assert tokens.columns["is_written"].tolist() == [True, False, False, True]
    assert tokens.columns["is_truncated_completion"].tolist() == [False, False, True, False]
    assert tokens.detail(1) == tokens.problems[1]
    assert tokens.detail(2) == f"{len(render_row(renderer, rows[2]).input_ids)} tokens"
    assert list(tokens.problems) == [1]


def test_rows_of_many_batches_keep_their_numbers(renderer: Renderer, tmp_path: Path) -> None:
    n_rows = BATCH_ROWS + 5
    path = tmp_path / "tokens.parquet"
    rows = [chat(str(number), "a") if number % 2 else chat(7, "a") for number in range(n_rows)]
    tokens = write_tokens(rows, renderer, settings_of({}), 100, TokenOutput(path))
    assert [line["row"] for line in written(path)] == list(range(1, n_rows, 2))
    assert len(tokens.columns["n_tokens"]) == n_rows
    assert list(tokens.problems) == list(range(0, n_rows, 2))


def test_no_file_is_needed_to_measure_rows(renderer: Renderer, tmp_path: Path) -> None:
    tokens = write_tokens([chat("a", "b")], renderer, settings_of({}), 100, TokenOutput())
    assert (tokens.n_rows, list(tmp_path.iterdir())) == (1, [])
    output = TokenOutput(tmp_path / "x.parquet")
    nothing = write_tokens([], renderer, settings_of({}), 100, output)
    assert nothing.n_rows == 0
    assert {len(column) for column in nothing.columns.values()} == {0}
    assert written(tmp_path / "x.parquet") == []


def test_weight_of_its_source_goes_with_every_row(renderer: Renderer, tmp_path: Path) -> None:
    rows = [chat("a", "b"), chat(7, "refused"), chat("c", "d"), chat("e", "f")]
    for found, file in zip(rows, ("x/1.jsonl", "x/1.jsonl", "y/1.jsonl", "x/2.jsonl"), strict=True):
        found.file = file
    output = TokenOutput(tmp_path / "tokens.parquet", weights={"x": 0.5, "y": 2.0})
    tokens = write_tokens(rows, renderer, settings_of({}), 100, output)
    assert [line["weight"] for line in written(tmp_path / "tokens.parquet")] == [0.5, 2.0, 0.5]
    n_tokens = len(render_row(renderer, rows[0]).input_ids)
    assert tokens.sources == {"x": [2, 2 * n_tokens], "y": [1, n_tokens]}


def test_equal_weights_of_one_are_not_written(renderer: Renderer, tmp_path: Path) -> None:
    output = TokenOutput(tmp_path / "tokens.parquet", weights={"a.jsonl": 1.0})
    tokens = write_tokens([chat("a", "b")], renderer, settings_of({}), 100, output)
    assert list(written(tmp_path / "tokens.parquet")[0]) == ["row", "input_ids", "labels"]
    assert tokens.sources["a.jsonl"][0] == 1


def test_row_whose_reason_was_not_kept_says_that_it_has_no_tokens() -> None:
    assert SplitTokens(columns=token_columns([row(0, None)], 8)).detail(0) == "no tokens"


def test_row_without_trained_tokens_says_why_whatever_is_asked() -> None:
    reason = {SetRule.NO_SUPERVISED_TOKENS: {0: "every answer has weight 0"}}
    tokens = SplitTokens(columns=token_columns([row(span=None)], 8), findings=reason)
    assert tokens.detail(0) == tokens.detail(0, SetRule.NO_SUPERVISED_TOKENS)
    assert tokens.detail(0) == "every answer has weight 0"
    assert SplitTokens(columns=tokens.columns).detail(0) == "6 tokens"
