from __future__ import annotations

import pytest

from schemas.quality import SET_RULES, set_rule_settings
from schemas.rules import GateMode, RuleSetting, SetRule, Severity
from tasks._rendering import RenderedRow
from tasks._tokens import is_dropped, token_features


def row(
    n_tokens: int = 6,
    n_supervised: int = 3,
    *,
    has_stop: bool = True,
    is_prefix: bool = True,
    n_bos: int = 1,
) -> RenderedRow:
    return RenderedRow([1] * n_tokens, [1] * n_tokens, n_supervised, has_stop, is_prefix, n_bos)


# For each token rule: a row that breaks it and its nearest legal neighbour, at most 8 tokens.
CASES = {
    SetRule.NO_SUPERVISED_TOKENS: (row(n_supervised=0), row(n_supervised=1)),
    SetRule.STOP_TOKEN_NOT_SUPERVISED: (row(has_stop=False), row()),
    SetRule.PROMPT_NOT_PREFIX: (row(is_prefix=False), row()),
    SetRule.DOUBLE_BOS: (row(n_bos=2), row(n_bos=1)),
    SetRule.TOO_LONG: (row(9), row(8)),
}


def broken(rendered: RenderedRow) -> set[SetRule]:
    features = token_features(rendered, max_length_tokens=8)
    return {
        rule
        for rule, definition in SET_RULES.items()
        if definition.is_token_rule and features[definition.column]
    }


def test_every_token_rule_has_a_case() -> None:
    assert set(CASES) == {rule for rule, found in SET_RULES.items() if found.is_token_rule}


@pytest.mark.parametrize("rule", list(CASES))
def test_token_rule_is_broken_by_its_row_and_not_by_its_neighbour(rule: SetRule) -> None:
    bad, good = CASES[rule]
    assert broken(bad) == {rule}
    assert broken(good) == set()


def test_row_without_trained_tokens_breaks_that_rule_only() -> None:
    refused = RenderedRow([], [], 0, False, False, 0, problem="no")
    assert broken(refused) == {SetRule.NO_SUPERVISED_TOKENS}


def test_lengths_are_counted() -> None:
    features = token_features(row(), 8)
    assert [features[name] for name in ("n_tokens", "n_supervised_tokens", "n_bos")] == [6, 3, 1]


@pytest.mark.parametrize(
    ("severity", "expected"),
    [(Severity.BLOCK, True), (Severity.WARN, False), (Severity.OFF, False)],
)
def test_only_rows_that_break_a_blocking_rule_are_dropped(
    severity: Severity, expected: bool
) -> None:
    rules = {SetRule.TOO_LONG: RuleSetting(severity=severity)}
    settings = set_rule_settings(rules, GateMode.ENFORCE)
    assert is_dropped(token_features(row(9), 8), settings) is expected
    assert not is_dropped(token_features(row(8), 8), settings)


def test_row_with_nothing_to_train_is_dropped_whatever_the_rules_say() -> None:
    settings = set_rule_settings({}, GateMode.OFF)
    assert is_dropped(token_features(row(n_supervised=0), 8), settings)
