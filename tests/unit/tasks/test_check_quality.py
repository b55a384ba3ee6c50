from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy
import pytest

from schemas.config.registry import RegistryConfig
from schemas.config.run import QualityConfig
from schemas.errors import ConfigError, DataRejected
from schemas.records.references import (
    CheckedReference,
    QualityReference,
    SplitReference,
    TemplateReference,
)
from schemas.rule_ids import DataGateMode, RuleSetting, SetRule, Severity, Verdict
from tasks.check_quality import check_quality, overall_verdict, quality_fingerprint
from tasks.dataset.pinned_rows import PinnedRules
from tasks.dataset.retention_rows import RetentionRequest
from tasks.dataset.split_rows import Split
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.jsonl import json_line, read_lines
from tasks.engine.keys import StageKey
from tasks.rows.feature_table import FeatureTable
from tasks.split_dataset import compare_all
from tasks.tokens.split_tokens import MAX_TRAIN_PROMPTS
from tests.support.toy import TOY_TRAINING_TEMPLATE, make_toy_model, toy_rows, write_jsonl

LONG = "x" * 400


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("model"))


def kept_line(number: int, prompt: str, completion: str) -> dict[str, Any]:
    return {
        "file": "a.jsonl",
        "line": number,
        "format": "prompt_completion",
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": completion},
        ],
        "n_prompt_messages": 1,
        "tools": None,
        "columns": {"topic": "t"},
    }


def rows(n_rows: int) -> list[dict[str, Any]]:
    return [
        kept_line(number, row["prompt"], row["completion"])
        for number, row in enumerate(toy_rows(n_rows), start=1)
    ]


def write(path: Path, lines: list[Any]) -> None:
    path.write_text("".join(json_line(line) for line in lines), encoding="utf-8")


def run(
    model: Path,
    lines: list[dict[str, Any]],
    quality: QualityConfig | None = None,
    *,
    n_eval_rows: int = 3,
    n_validation_rows: int = 0,
    weights: dict[str, float] | None = None,
    n_bad: int = 0,
    template_text: str = TOY_TRAINING_TEMPLATE,
    groups: list[int] | None = None,
    retention: RetentionRequest | None = None,
) -> QualityReference:
    """Hold rows to the gate; the first few are evaluation rows, those behind them validation."""
    n_held_rows = n_eval_rows + n_validation_rows
    key = {
        "rows": json.dumps([lines, n_eval_rows, n_held_rows, n_bad, template_text, weights, groups])
    }
    checked_output = OutputFolder(StageKey("check_schema", key))
    quarantined = {"file": "a.jsonl", "line": 99, "rules": ["x"], "reason": "x: y", "row": None}
    write(checked_output.path / "quarantine.jsonl", [quarantined] * n_bad)
    checked = checked_output.commit(
        CheckedReference,
        n_rows=len(lines) + n_bad,
        n_kept_rows=len(lines),
        n_quarantined_rows=n_bad,
        kept_sha256="0" * 64,
        formats={},
        rules=(),
    )
    split_output = OutputFolder(StageKey("split_dataset", key))
    write(split_output.path / "eval.jsonl", lines[:n_eval_rows])
    write(split_output.path / "validation.jsonl", lines[n_eval_rows:n_held_rows])
    write(split_output.path / "train.jsonl", lines[n_held_rows:])
    write(split_output.path / "all.jsonl", lines)
    sizes = (n_eval_rows, n_validation_rows)
    measure(split_output.path / "all.jsonl", sizes, split_output.path / "row_features", groups)
    split = split_output.commit(
        SplitReference,
        n_train_rows=len(lines) - n_held_rows,
        n_eval_rows=n_eval_rows,
        n_validation_rows=n_validation_rows,
        n_unused_rows=0,
        train_sha256="",
        eval_sha256="",
    )
    template_output = OutputFolder(StageKey("prepare_template", key))
    (template_output.path / "model").symlink_to(model)
    path = template_output.path / "training_template.jinja"
    path.write_text(template_text, encoding="utf-8")
    template = template_output.commit(
        TemplateReference,
        model_name="toy",
        model_fingerprint="",
        template_sha256="",
        template_origin="model",
        n_parameters=1,
        n_added_tokens=0,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    output = OutputFolder(StageKey("check_quality", key))
    function = inspect.unwrap(check_quality.fn)
    registry = RegistryConfig(name="nobody")
    settings = quality or QualityConfig()
    stages = (output, split, checked, template, settings, registry)
    return function(*stages, weights or {}, retention)


def measure(
    rows: Path, sizes: tuple[int, int], folder: Path, groups: list[int] | None = None
) -> None:
    """Write the features the split would leave; evaluation rows first, then validation."""
    table = FeatureTable(folder)
    compare_all([rows], table, 0.8)
    parts = [Split.EVAL] * sizes[0] + [Split.VALIDATION] * sizes[1]
    parts += [Split.TRAIN] * (table.n_rows - sum(sizes))
    table.append("part", numpy.array(parts))
    table.append("group", numpy.array(groups or range(table.n_rows)))
    table.save()


def tokens(reference: QualityReference, name: str) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return parquet.read_table(locate(reference, f"{name}_tokens.parquet")).to_pylist()


def summary(reference: QualityReference) -> dict[str, Any]:
    return json.loads(locate(reference, "quality.json").read_text())


def test_good_rows_become_tokens_and_prompts(model: Path) -> None:
    lines = rows(12)
    reference = run(model, lines)
    assert reference.verdict is Verdict.PASSED
    assert (reference.n_train_rows, reference.n_eval_rows) == (9, 3)
    train = tokens(reference, "train")
    assert [row["row"] for row in train] == list(range(9))
    assert reference.n_train_tokens == sum(len(row["input_ids"]) for row in train)
    # One token a byte, and the stop token.
    expected = sum(len(line["messages"][1]["content"]) + 1 for line in lines[3:])
    assert reference.n_supervised_tokens == expected
    assert sum(label != -100 for row in train for label in row["labels"]) == expected
    prompts = list(read_lines(locate(reference, "eval_prompts.jsonl")))
    assert [prompt["row"] for prompt in prompts] == [0, 1, 2]
    question, answer = (message["content"] for message in lines[0]["messages"])
    assert prompts[0]["prompt"] == (
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompts[0]["reference"] == answer
    assert prompts[0]["columns"] == {"topic": "t"}
    assert [prompt["group"] for prompt in prompts] == [0, 1, 2]


def test_prompts_name_the_group_and_the_digest_of_each_evaluation_row(model: Path) -> None:
    lines = rows(12)
    lines[2]["messages"][0]["content"] = f" {lines[0]['messages'][0]['content'].upper()}"
    lax = QualityConfig(mode=DataGateMode.WARN)  # two answers to one prompt
    reference = run(model, lines, lax, groups=[5, 7, 5, *range(20, 29)])
    first, second, third = read_lines(locate(reference, "eval_prompts.jsonl"))
    # Numbers of groups do not depend on the rows that are trained.
    assert (first["group"], second["group"], third["group"]) == (0, 1, 0)
    assert first["digest"] == third["digest"] != second["digest"]
    assert len(first["digest"]) == 16
    again = run(model, lines, lax, groups=[9, 1, 9, *range(30, 39)])
    assert again.sha256 == reference.sha256
    apart = run(model, lines, lax)
    assert apart.eval_sha256 == reference.eval_sha256  # the scores of a model stay the same
    assert apart.sha256 != reference.sha256


def test_retention_rows_are_written_and_change_neither_training_nor_evaluation(
    model: Path, tmp_path: Path
) -> None:
    source = str(write_jsonl(tmp_path / "general.jsonl", toy_rows(30)[12:] + toy_rows(6, seed=1)))
    request = RetentionRequest(sources={"general": source}, pinned=PinnedRules())
    plain, found = run(model, rows(12)), run(model, rows(12), retention=request)
    assert (found.sha256, found.eval_sha256) == (plain.sha256, plain.eval_sha256)
    assert plain.retention_sha256 == {}
    part = summary(found)["retention"]["general"]
    assert part["sha256"] == found.retention_sha256["general"]
    assert part["n_rows"] + part["n_trained_rows"] == 24
    assert len(tokens(found, "retention_general")) == part["n_rows"]
    before = quality_fingerprint({"quality": QualityConfig(reference="none"), "retention": request})
    write_jsonl(Path(source), toy_rows(30))
    after = quality_fingerprint({"quality": QualityConfig(reference="none"), "retention": request})
    assert before != after


def test_parquet_columns_have_the_agreed_types(model: Path) -> None:
    from pyarrow import parquet

    schema = parquet.read_schema(locate(run(model, rows(12)), "train_tokens.parquet"))
    assert schema.names == ["row", "input_ids", "labels"]
    assert str(schema.field("input_ids").type) == "list<element: int32>"
    assert str(schema.field("labels").type) == "list<element: int32>"


def test_same_rows_give_the_same_sha256(model: Path) -> None:
    first = run(model, rows(12))
    again = run(model, rows(12))
    assert first.sha256 == again.sha256
    assert first.eval_sha256 == again.eval_sha256


def test_eval_sha256_follows_the_evaluation_rows_only(model: Path) -> None:
    first = run(model, rows(12))
    more_training = run(model, rows(14))
    assert first.eval_sha256 == more_training.eval_sha256
    assert first.sha256 != more_training.sha256
    assert run(model, rows(12)[1:]).eval_sha256 != first.eval_sha256


def test_long_row_stops_the_run_and_leaves_its_figures(model: Path) -> None:
    lines = [*rows(19), kept_line(20, "long", LONG)]
    with pytest.raises(DataRejected) as caught:
        run(model, lines, QualityConfig(max_length_tokens=200))
    text = str(caught.value)
    assert "1 of 20 rows in the training and evaluation rows broke rule too_long (limit 0)." in text
    assert "line 20: " in text
    assert "quality.rules.too_long.limit" in caught.value.fix
    assert (Path(caught.value.where) / "quality.json").is_file()
    assert (Path(caught.value.where) / "features.parquet").is_file()


def test_long_row_within_the_limit_is_dropped_and_counted(model: Path) -> None:
    lines = [*rows(19), kept_line(20, "long", LONG)]
    rules = {SetRule.TOO_LONG: RuleSetting(limit=0.05)}
    reference = run(model, lines, QualityConfig(max_length_tokens=200, rules=rules))
    assert reference.verdict is Verdict.PASSED
    assert reference.n_train_rows == 16
    assert summary(reference)["n_dropped_train_rows"] == 1
    assert [row["row"] for row in tokens(reference, "train")] == list(range(16))
    [result] = [result for result in reference.rules if result.id == SetRule.TOO_LONG]
    assert (result.n_rows, result.verdict) == (1, Verdict.PASSED)


def test_warned_row_stays_whole(model: Path) -> None:
    lines = [*rows(19), kept_line(20, "long", LONG)]
    rules = {SetRule.TOO_LONG: RuleSetting(severity=Severity.WARN)}
    reference = run(model, lines, QualityConfig(max_length_tokens=200, rules=rules))
    assert reference.verdict is Verdict.WARNED
    assert len(tokens(reference, "train")[-1]["input_ids"]) > 400


def test_rows_without_positions_are_refused_whatever_the_rules_say(model: Path) -> None:
    lines = [*rows(19), kept_line(20, "long", " ".join([LONG] * 9))]
    with pytest.raises(DataRejected, match="broke rule too_long"):
        run(model, lines, QualityConfig(max_length_tokens=100_000))
    rules = {SetRule.TOO_LONG: RuleSetting(severity=Severity.WARN)}
    with pytest.raises(ConfigError, match="longer than the model has positions") as caught:
        run(model, lines, QualityConfig(max_length_tokens=100_000, rules=rules))
    assert caught.value.expected == "at most 512 tokens"


def test_warn_mode_reports_and_off_mode_skips(model: Path) -> None:
    lines = rows(6)
    with pytest.raises(DataRejected, match=r"6 usable rows .*at least 10"):
        run(model, lines)
    assert run(model, lines, QualityConfig(mode=DataGateMode.WARN)).verdict is Verdict.WARNED
    assert run(model, lines, QualityConfig(mode=DataGateMode.OFF)).verdict is Verdict.SKIPPED


def test_template_without_markers_is_rejected_in_every_mode(model: Path) -> None:
    plain = TOY_TRAINING_TEMPLATE.replace("{%- generation -%}", "").replace(
        "{%- endgeneration -%}", ""
    )
    with pytest.raises(DataRejected, match="broke rule no_supervised_tokens"):
        run(model, rows(12), template_text=plain)
    with pytest.raises(DataRejected, match="no training row is left"):
        run(model, rows(12), QualityConfig(mode=DataGateMode.OFF), template_text=plain)


def test_bad_rows_count_against_the_set(model: Path) -> None:
    with pytest.raises(DataRejected) as caught:
        run(model, rows(12), n_bad=1)
    assert "1 of 13 rows" in str(caught.value)
    assert "line 99: x: y" in str(caught.value)
    allowed = {SetRule.BAD_ROW_FRACTION: RuleSetting(limit=0.1)}
    assert run(model, rows(12), QualityConfig(rules=allowed), n_bad=1).verdict is Verdict.PASSED


def test_prompt_on_both_sides_is_rejected(model: Path) -> None:
    lines = rows(40)
    lines[39] = {**lines[0], "line": 40}
    with pytest.raises(DataRejected, match="train_eval_overlap"):
        run(model, lines)


def test_validation_rows_become_tokens_of_their_own(model: Path) -> None:
    lines = rows(16)
    without, reference = run(model, lines), run(model, lines, n_validation_rows=2)
    assert (without.n_validation_rows, reference.n_validation_rows) == (0, 2)
    assert reference.n_train_rows == without.n_train_rows - 2
    assert reference.eval_sha256 == without.eval_sha256
    assert not locate(without, "validation_tokens.parquet").exists()
    found = tokens(reference, "validation")
    assert found == tokens(without, "train")[:2]
    assert summary(reference)["n_validation_rows"] == 2
    assert summary(reference)["n_dropped_validation_rows"] == 0
    assert "n_validation_rows" not in summary(without)


def test_validation_rows_are_held_to_the_token_rules_and_found_in_their_file(model: Path) -> None:
    long = kept_line(77, "long", LONG)
    lines = [*rows(3), long, *rows(20)[3:]]
    with pytest.raises(DataRejected, match=r"1 of 21 rows .* broke rule too_long") as caught:
        run(model, lines, QualityConfig(max_length_tokens=200), n_validation_rows=2)
    assert "line 77: " in str(caught.value)
    features = parquet_rows(Path(caught.value.where) / "features.parquet")
    assert [row["line"] for row in features if row["is_too_long"]] == [77]
    assert [row["line"] for row in features[-2:]] == [77, 4]


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return found


def test_validation_side_without_a_usable_row_is_refused(model: Path) -> None:
    lines = [*rows(3), kept_line(77, "long", LONG), *rows(20)[3:]]
    rules = {SetRule.TOO_LONG: RuleSetting(limit=0.5)}
    quality = QualityConfig(max_length_tokens=200, rules=rules)
    with pytest.raises(DataRejected, match="no validation row is left"):
        run(model, lines, quality, n_validation_rows=1)


def test_prompt_that_is_judged_and_measured_while_training_is_rejected(model: Path) -> None:
    lines = rows(40)
    lines[3] = {**lines[0], "line": 40}
    with pytest.raises(DataRejected, match="train_eval_overlap"):
        run(model, lines, n_validation_rows=2)


def test_first_training_prompts_are_kept_as_they_will_be_asked(model: Path) -> None:
    lines = [*rows(5), kept_line(6, "long", LONG), *rows(80)[5:]]
    rules = {SetRule.TOO_LONG: RuleSetting(limit=0.5)}
    reference = run(model, lines, QualityConfig(max_length_tokens=200, rules=rules))
    prompts = list(read_lines(locate(reference, "train_prompts.jsonl")))
    assert len(prompts) == MAX_TRAIN_PROMPTS
    assert [prompt["row"] for prompt in prompts[:4]] == [0, 1, 3, 4]  # the long row has no tokens
    assert [row["row"] for row in tokens(reference, "train")][:64] == [
        prompt["row"] for prompt in prompts
    ]
    assert prompts[2] == {
        "row": 3,
        "prompt": f"<|im_start|>user\n{lines[6]['messages'][0]['content']}<|im_end|>\n"
        "<|im_start|>assistant\n",
    }


def test_weights_of_sources_reach_the_training_tokens_alone(model: Path) -> None:
    lines = rows(16)
    for number, line in enumerate(lines):
        line["file"] = f"{'ab'[number % 2]}/rows.jsonl"
    reference = run(model, lines, n_validation_rows=3, weights={"a": 2.0, "b": 1.0})
    train = tokens(reference, "train")
    assert [row["weight"] for row in train] == [2.0, 1.0] * 5
    assert "weight" not in tokens(reference, "validation")[0] | tokens(reference, "eval")[0]
    assert [found.model_dump() for found in reference.sources] == [
        {
            "name": name,
            "weight": weight,
            "n_rows": 5,
            "n_tokens": sum(len(row["input_ids"]) for row in train[start::2]),
        }
        for name, weight, start in (("a", 2.0, 0), ("b", 1.0, 1))
    ]
    assert summary(reference)["sources"][0]["weight"] == 2.0
    assert "weight" not in tokens(run(model, lines, weights={"a": 1.0, "b": 1.0}), "train")[0]


def test_worst_verdict_counts() -> None:
    assert overall_verdict(()) is Verdict.SKIPPED
