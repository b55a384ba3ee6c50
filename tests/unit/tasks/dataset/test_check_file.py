from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import DataConfig, QualityConfig, RunConfig
from schemas.errors import DataSourceError
from schemas.rule_ids import DataGateMode, RowRule, RuleSetting, SetRule, Severity, Verdict
from tasks.dataset.check_file import CheckOptions, CheckVerdict, Scope, check_file
from tests.support.data_gate import BAD, ROWS, by_id, check
from tests.support.toy import as_messages, ordinary_rows, write_jsonl

GERMAN = "Die Mauer des alten Hauses ist zwei Meter hoch, und das Dach wurde neu gebaut, Fall {}."
PASSAGE = "the quick mason carried seven heavy copper pipes over the muddy field towards the tower"


def quality(**fields: Any) -> RunConfig:
    return RunConfig(quality=QualityConfig(**fields))


def test_clean_file_of_forty_ordinary_rows_is_accepted_out_of_the_box(tmp_path: Path) -> None:
    report = check(tmp_path, ordinary_rows(40))
    assert report.verdict is CheckVerdict.ACCEPTED
    assert (report.n_rows, report.n_kept_rows, report.n_quarantined_rows) == (40, 40, 0)
    assert (report.formats, report.conversions) == ({"prompt_completion": 40}, {})
    # Every set rule is there, in the order of its definition, and no row rule was broken.
    assert [result.id for result in report.rules] == list(SetRule)
    skipped = {result.id for result in report.rules if result.verdict is Verdict.SKIPPED}
    passed = {result.id for result in report.rules if result.verdict is Verdict.PASSED}
    assert passed == {
        SetRule.MIN_ROWS,
        SetRule.BAD_ROW_FRACTION,
        SetRule.DUPLICATE_FRACTION,
        SetRule.NEAR_DUPLICATE_FRACTION,
        SetRule.CONTRADICTORY_FRACTION,
        SetRule.BOILERPLATE_FRACTION,
        SetRule.CUT_TEXT_FRACTION,
        SetRule.LENGTH_QUANTILES,
        SetRule.ROLE_MIX,
    }
    assert passed | skipped == set(SetRule)
    assert report.profile is not None
    assert (report.profile.n_rows, report.tokens) == (40, None)


def near_copies(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{**row, "prompt": f"{row['prompt']} Please."} for row in rows]


def tool_rows(n_rows: int) -> list[dict[str, Any]]:
    """Make rows in which one message of seventeen is the assistant's."""
    rows = []
    for number, row in enumerate(ordinary_rows(n_rows)):
        calls = [{"function": {"name": "look", "arguments": {}}}] * 32
        results = [{"role": "tool", "content": f"result {number} {n}"} for n in range(32)]
        messages = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": None, "tool_calls": calls},
            *results,
        ]
        rows.append({"messages": [*messages, {"role": "assistant", "content": row["completion"]}]})
    return rows


# For each rule: rows that break it and no other set rule, and how many rows count against it.
BROKEN: list[tuple[SetRule, list[Any], int, RunConfig]] = [
    (SetRule.MIN_ROWS, ROWS[:9], 0, RunConfig()),
    (SetRule.BAD_ROW_FRACTION, [*ROWS, BAD, BAD, BAD], 3, RunConfig()),
    (SetRule.DUPLICATE_FRACTION, [*ROWS, *ROWS[:3]], 3, RunConfig()),
    (SetRule.NEAR_DUPLICATE_FRACTION, [*ROWS, *near_copies(ROWS[:3])], 3, RunConfig()),
    (
        SetRule.CONTRADICTORY_FRACTION,
        [*ROWS, {**ROWS[0], "completion": "Nobody has ever seen it."}],
        2,
        quality(rules={SetRule.CONTRADICTORY_FRACTION: RuleSetting(limit=0.04)}),
    ),
    (
        SetRule.BOILERPLATE_FRACTION,
        [*ROWS[3:], *({**row, "completion": "I am afraid I cannot say."} for row in ROWS[:3])],
        3,
        RunConfig(),
    ),
    (
        SetRule.LENGTH_QUANTILES,
        [{"prompt": f"{n}?", "completion": str(n * n)} for n in range(100, 130)],
        0,
        quality(length_quantiles={0.5: (12, None)}),
    ),
    (SetRule.ROLE_MIX, tool_rows(12), 0, RunConfig()),
    (
        SetRule.LANGUAGE_FRACTION,
        [
            *ROWS,
            *({"prompt": f"Fall {n}?", "completion": GERMAN.format(n * 7919)} for n in range(3)),
        ],
        3,
        quality(
            languages=("en",),
            rules={SetRule.NEAR_DUPLICATE_FRACTION: RuleSetting(severity=Severity.OFF)},
        ),
    ),
]


@pytest.mark.parametrize(
    ("rule", "rows", "n_rows", "config"), BROKEN, ids=[str(case[0]) for case in BROKEN]
)
def test_set_rule_is_broken_by_a_small_file_alone(
    tmp_path: Path, rule: SetRule, rows: list[Any], n_rows: int, config: RunConfig
) -> None:
    report = check(tmp_path, rows, config)
    assert report.verdict is CheckVerdict.REJECTED
    set_results = [result for result in report.rules if result.id in list(SetRule)]
    assert [result.id for result in set_results if result.verdict is Verdict.FAILED] == [rule]
    failed = by_id(report)[rule]
    assert (failed.n_rows, len(failed.examples)) == (n_rows, n_rows)
    assert failed.fix
    warned = config.quality.model_copy(
        update={"rules": {**config.quality.rules, rule: RuleSetting(severity=Severity.WARN)}}
    )
    limit = config.quality.rules.get(rule)
    if limit is None:
        loosened = check(tmp_path, rows, RunConfig(quality=warned))
        assert loosened.verdict is CheckVerdict.ACCEPTED
        assert by_id(loosened)[rule].verdict is Verdict.WARNED


def test_benchmark_passages_reject(tmp_path: Path) -> None:
    benchmark = write_jsonl(tmp_path / "bench.jsonl", [{"question": f"Tell me why {PASSAGE}."}])
    config = quality(benchmarks=(str(benchmark),))
    assert check(tmp_path, ROWS, config).verdict is CheckVerdict.ACCEPTED
    report = check(tmp_path, [*ROWS, {"prompt": "Why?", "completion": f"Once {PASSAGE}."}], config)
    failed = by_id(report)[SetRule.BENCHMARK_OVERLAP]
    assert (report.verdict, failed.verdict) == (CheckVerdict.REJECTED, Verdict.FAILED)
    assert [(found.line, found.detail) for found in failed.examples] == [
        (41, "holds a passage of a benchmark")
    ]


def test_missing_benchmark_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(DataSourceError) as caught:
        check(tmp_path, ROWS, quality(benchmarks=(str(tmp_path / "absent.jsonl"),)))
    assert "absent.jsonl" in str(caught.value)


def test_shrinking_and_drift_are_held_against_a_profile(tmp_path: Path) -> None:
    first = check(tmp_path, ordinary_rows(100))
    assert first.profile is not None
    (tmp_path / "profile.json").write_text(first.profile.model_dump_json())
    config = quality(reference=str(tmp_path / "profile.json"))
    same = by_id(check(tmp_path, ordinary_rows(80, seed=1), config))
    assert same[SetRule.SHRUNK_FRACTION].verdict is Verdict.PASSED
    assert same[SetRule.DRIFT].verdict is Verdict.PASSED
    fewer = by_id(check(tmp_path, ordinary_rows(79, seed=1), config))
    assert fewer[SetRule.SHRUNK_FRACTION].verdict is Verdict.FAILED
    assert fewer[SetRule.SHRUNK_FRACTION].observed == 0.21
    longer = [{**row, "completion": row["completion"] * 9} for row in ordinary_rows(100, seed=2)]
    drifted = check(tmp_path, longer, config)
    assert drifted.verdict is CheckVerdict.REJECTED
    assert by_id(drifted)[SetRule.DRIFT].detail == "answer_characters differs most"


def test_bad_rows_within_the_budget_are_set_aside_and_shown(tmp_path: Path) -> None:
    report = check(tmp_path, [*ROWS, BAD, {"prompt": "{{a_name}} is?", "completion": "A mason."}])
    assert report.verdict is CheckVerdict.ACCEPTED
    assert (report.n_rows, report.n_kept_rows, report.n_quarantined_rows) == (42, 41, 1)
    found = by_id(report)
    assert [result.id for result in report.rules[:2]] == [
        RowRule.COMPLETION_EMPTY,
        RowRule.UNRENDERED_PLACEHOLDER,
    ]
    assert found[RowRule.COMPLETION_EMPTY].verdict is Verdict.FAILED
    assert found[RowRule.UNRENDERED_PLACEHOLDER].verdict is Verdict.WARNED
    examples = found[SetRule.BAD_ROW_FRACTION].examples
    assert [(example.line, example.detail) for example in examples] == [
        (41, 'completion_empty: completion is " "')
    ]


def test_formats_and_conversions_are_counted(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "How tall?"}, {"from": "gpt", "value": "It is two metres."}]
    rows: list[Any] = [
        *ROWS,
        *as_messages(ordinary_rows(3, seed=5)),
        {"conversations": turns},
        {"conversations": json.dumps([turns[0], {"from": "gpt", "value": "Two metres, I say."}])},
        {"instruction": "Name it.", "input": "", "output": "That is a wall."},
    ]
    report = check(tmp_path, rows)
    assert report.formats == {
        "alpaca": 1,
        "messages": 3,
        "prompt_completion": 40,
        "sharegpt": 2,
    }
    assert list(report.conversions.items()) == [
        ("alpaca_to_messages", 1),
        ("json_text_parsed", 1),
        ("sharegpt_to_messages", 2),
    ]
    mixed = by_id(report)[RowRule.MIXED_FORMAT]
    assert (mixed.n_rows, mixed.verdict) == (6, Verdict.WARNED)
    assert report.verdict is CheckVerdict.ACCEPTED


def test_scope_rows_looks_at_rows_and_their_budget_alone(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS[:2], *ROWS[:2]])
    report = check_file(str(path), RunConfig(), CheckOptions(Scope.ROWS))
    assert [result.id for result in report.rules] == [SetRule.BAD_ROW_FRACTION]
    # Few rows and repeats are no matter of single rows.
    assert (report.verdict, report.n_kept_rows) == (CheckVerdict.ACCEPTED, 4)
    assert report.profile is None


@pytest.mark.parametrize("n_bad", [0, 2, 3])
@pytest.mark.parametrize("severity", list(Severity))
def test_budget_of_bad_rows_is_the_same_in_both_scopes(
    tmp_path: Path, n_bad: int, severity: Severity
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS[:38], *[BAD] * n_bad])
    config = quality(rules={SetRule.BAD_ROW_FRACTION: RuleSetting(severity=severity)})
    rows, whole = (
        check_file(str(path), config, CheckOptions(scope)) for scope in (Scope.ROWS, Scope.SET)
    )
    assert rows.verdict is whole.verdict
    # Two of forty rows are exactly the twentieth that is allowed.
    is_rejected = n_bad == 3 and severity is Severity.BLOCK
    assert (rows.verdict is CheckVerdict.REJECTED) is is_rejected
    found = [by_id(report)[SetRule.BAD_ROW_FRACTION] for report in (rows, whole)]
    assert found[0] == found[1]


@pytest.mark.parametrize("scope", [Scope.ROWS, Scope.SET])
def test_file_without_a_usable_row_is_rejected(tmp_path: Path, scope: Scope) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [BAD, BAD])
    report = check_file(str(path), RunConfig(), CheckOptions(scope))
    assert (report.verdict, report.n_kept_rows) == (CheckVerdict.REJECTED, 0)


@pytest.mark.parametrize("scope", [Scope.ROWS, Scope.SET])
def test_row_rule_with_a_limit_of_its_own_rejects_beyond_it(tmp_path: Path, scope: Scope) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS[:39], BAD])
    verdicts = []
    for limit in (0.025, 0.02):
        rules = {RowRule.COMPLETION_EMPTY: RuleSetting(limit=limit)}
        config = RunConfig(data=DataConfig(rules=rules))
        verdicts.append(check_file(str(path), config, CheckOptions(scope)).verdict)
    assert verdicts == [CheckVerdict.ACCEPTED, CheckVerdict.REJECTED]


@pytest.mark.parametrize(
    ("mode", "verdict", "result"),
    [
        (DataGateMode.ENFORCE, CheckVerdict.REJECTED, Verdict.FAILED),
        (DataGateMode.WARN, CheckVerdict.ACCEPTED, Verdict.WARNED),
        (DataGateMode.OFF, CheckVerdict.ACCEPTED, Verdict.SKIPPED),
    ],
)
def test_mode_of_the_gate_decides_what_a_broken_set_rule_does(
    tmp_path: Path, mode: DataGateMode, verdict: CheckVerdict, result: Verdict
) -> None:
    report = check(tmp_path, ROWS[:4], quality(mode=mode))
    assert report.verdict is verdict
    assert by_id(report)[SetRule.MIN_ROWS].verdict is result


def test_limits_of_the_configuration_count(tmp_path: Path) -> None:
    config = quality(rules={SetRule.MIN_ROWS: RuleSetting(limit=4)})
    assert check(tmp_path, ROWS[:4], config).verdict is CheckVerdict.ACCEPTED
    assert check(tmp_path, ROWS[:3], config).verdict is CheckVerdict.REJECTED
