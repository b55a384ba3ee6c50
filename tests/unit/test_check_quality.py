from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy
import pytest

from schemas.errors import DataRejected
from schemas.records import CheckedReference, QualityReference, SplitReference, TemplateReference
from schemas.rules import GateMode, RuleSetting, SetRule, Severity, Verdict
from schemas.run_config import QualityConfig, RegistryConfig
from tasks._cache import OutputFolder, locate
from tasks._features import FeatureTable
from tasks._keys import StageKey
from tasks._lines import json_line, read_lines
from tasks._sides import EVAL, TRAIN
from tasks.check_quality import check_quality, judge
from tasks.split_dataset import compare_all
from tests.toy import make_toy_model, toy_rows

TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}{{ '\n' }}"
    "{%- else -%}{{ message['content'] + '<|im_end|>' + '\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
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
    n_bad: int = 0,
    template_text: str = TEMPLATE,
) -> QualityReference:
    """Hold rows to the gate; the first few are the evaluation rows."""
    key = {"rows": json.dumps([lines, n_eval_rows, n_bad, template_text])}
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
    write(split_output.path / "train.jsonl", lines[n_eval_rows:])
    write(split_output.path / "all.jsonl", lines)
    measure(split_output.path / "all.jsonl", n_eval_rows, split_output.path / "row_features")
    split = split_output.commit(
        SplitReference,
        n_train_rows=len(lines) - n_eval_rows,
        n_eval_rows=n_eval_rows,
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
    return function(output, split, checked, template, quality or QualityConfig(), registry)


def measure(rows: Path, n_eval_rows: int, folder: Path) -> None:
    """Write the features the split would leave; evaluation rows first."""
    table = FeatureTable(folder)
    compare_all([rows], table, 0.8)
    parts = [EVAL if row < n_eval_rows else TRAIN for row in range(table.n_rows)]
    table.append("part", numpy.array(parts))
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


def test_warn_mode_reports_and_off_mode_skips(model: Path) -> None:
    lines = rows(6)
    with pytest.raises(DataRejected, match=r"6 usable rows .*at least 10"):
        run(model, lines)
    assert run(model, lines, QualityConfig(mode=GateMode.WARN)).verdict is Verdict.WARNED
    assert run(model, lines, QualityConfig(mode=GateMode.OFF)).verdict is Verdict.SKIPPED


def test_template_without_markers_is_rejected_in_every_mode(model: Path) -> None:
    plain = TEMPLATE.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    with pytest.raises(DataRejected, match="broke rule no_supervised_tokens"):
        run(model, rows(12), template_text=plain)
    with pytest.raises(DataRejected, match="no training row is left"):
        run(model, rows(12), QualityConfig(mode=GateMode.OFF), template_text=plain)


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


def test_worst_verdict_counts() -> None:
    assert judge(()) is Verdict.SKIPPED
