"""One data gate: `check_file` and the stages of the flow find the same in the same file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy
import pytest

from schemas.config.run import DataSource, ModelConfig, QualityConfig, RunConfig, SplitConfig
from schemas.errors import DataRejected
from schemas.records.references import TemplateReference
from schemas.rule_ids import DataGateMode, RuleResult, RuleSetting, SetRule, Severity, Verdict
from schemas.rules.check_set import check_set, check_share
from schemas.rules.set_rules import set_rule_settings
from tasks.check_quality import check_quality
from tasks.check_schema import check_schema
from tasks.dataset.check_file import CheckOptions, CheckReport, Scope, check_file
from tasks.engine.cache import OutputFolder
from tasks.engine.keys import StageKey
from tasks.load_dataset import load_dataset
from tasks.prepare_template import prepare_template
from tasks.split_dataset import split_dataset
from tests.support.data_gate import BAD
from tests.support.toy import make_toy_model, ordinary_rows, write_jsonl

ROWS = ordinary_rows(60)
LONG = {"prompt": "Which words are these?", "completion": " ".join(f"word{n}" for n in range(62))}
WARNED = (SetRule.CONTRADICTORY_FRACTION, SetRule.TOO_LONG, SetRule.TRUNCATED_COMPLETION)
ONLY_AFTER_THE_SPLIT = SetRule.TRAIN_EVAL_OVERLAP


def run_stage(stage: Any, *arguments: Any) -> Any:
    """Run a stage's body without Prefect, into a folder of its own."""
    return inspect.unwrap(stage.fn)(OutputFolder(StageKey(stage.name, {})), *arguments)


def run_stages(path: Path, config: RunConfig) -> tuple[RuleResult, ...]:
    """Return what the row rules and the set rules of the flow found in a file."""
    template: TemplateReference = run_stage(
        prepare_template, config.model, config.template, config.seed
    )
    dataset = run_stage(load_dataset, DataSource(source=str(path)))
    checked = run_stage(check_schema, dataset, config.data.rules, template.special_tokens)
    similarity = config.quality.near_duplicate_similarity
    split = run_stage(split_dataset, checked, config.split, config.seed, similarity)
    quality = run_stage(
        check_quality, split, checked, template, config.quality, config.registry, {}
    )
    return (*checked.rules, *quality.rules)


def comparable(results: tuple[RuleResult, ...]) -> dict[str, dict[str, Any]]:
    """Return results by rule; the split changes the order of the rows, so examples are sorted."""
    found = {}
    for result in results:
        if result.id != ONLY_AFTER_THE_SPLIT:
            examples = sorted(str(example) for example in result.examples)
            found[result.id] = {**result.model_dump(mode="json"), "examples": examples}
    return found


def test_file_and_flow_apply_the_same_rules_with_the_same_results(tmp_path: Path) -> None:
    rows = [*ROWS, BAD, ROWS[3], {**ROWS[7], "completion": "It is quite different."}, LONG]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    config = RunConfig(
        model=ModelConfig(source=str(make_toy_model(tmp_path / "model"))),
        quality=QualityConfig(
            rules=dict.fromkeys(WARNED, RuleSetting(severity=Severity.WARN)),
            max_length_tokens=400,
            reference="none",
        ),
        split=SplitConfig(eval_fraction=0.2, max_eval_rows=1000),
    )
    report: CheckReport = check_file(str(path), config, CheckOptions(Scope.TOKENS))
    in_flow = comparable(run_stages(path, config))
    assert comparable(report.rules) == in_flow
    counts = {rule: found["n_rows"] for rule, found in in_flow.items() if found["n_rows"]}
    assert counts == {
        "completion_empty": 1,
        SetRule.BAD_ROW_FRACTION: 1,
        SetRule.DUPLICATE_FRACTION: 1,
        SetRule.CONTRADICTORY_FRACTION: 2,
        SetRule.TRUNCATED_COMPLETION: 1,
        SetRule.TOO_LONG: 1,
    }


def test_file_and_flow_reject_the_same_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS, *ROWS[:4]])
    config = RunConfig(
        model=ModelConfig(source=str(make_toy_model(tmp_path / "model"))),
        quality=QualityConfig(reference="none"),
        split=SplitConfig(eval_fraction=0.2),
    )
    report = check_file(str(path), config)
    [failed] = [found for found in report.rules if found.verdict is Verdict.FAILED]
    assert (failed.id, failed.n_rows) == (SetRule.DUPLICATE_FRACTION, 4)
    with pytest.raises(DataRejected, match=r"4 of 64 rows .* broke rule duplicate_fraction"):
        run_stages(path, config)


@pytest.mark.parametrize("severity", list(Severity))
@pytest.mark.parametrize(("n_bad", "n_rows"), [(0, 40), (2, 40), (3, 40), (1, 3), (0, 0), (3, 3)])
def test_share_is_the_same_with_and_without_great_expectations(
    severity: Severity, n_bad: int, n_rows: int
) -> None:
    rule = SetRule.BAD_ROW_FRACTION
    settings = set_rule_settings({rule: RuleSetting(severity=severity)}, DataGateMode.ENFORCE)
    is_bad = numpy.arange(n_rows) < n_bad
    [full] = [found for found in check_set({"is_bad": is_bad}, settings, {}) if found.id == rule]
    assert check_share(rule, settings[rule], is_bad, ()) == full
