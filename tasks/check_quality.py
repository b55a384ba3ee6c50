"""Stage `check_quality`: render and tokenise both sides, and hold the set to the set rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import DataRejected
from schemas.quality import SET_RULES, check_set, set_rule_settings
from schemas.records import CheckedReference, QualityReference, SplitReference, TemplateReference
from schemas.rows import Conversation
from schemas.rules import RuleExample, RuleResult, RuleSetting, SetRule, Verdict
from schemas.run_config import QualityConfig
from tasks._cache import OutputFolder, locate
from tasks._features import (
    MOST_EXAMPLES,
    NOT_APPLICABLE,
    FeatureTable,
    Part,
    RowPlace,
    compare_rows,
    place_rows,
)
from tasks._lines import read_lines
from tasks._progress import progress_bar
from tasks._rejection import keep_evidence, rejection
from tasks._rendering import Renderer, load_renderer
from tasks._stage import stage_task
from tasks._tokens import SideTokens, is_dropped, write_tokens

CONTENT = ("train_tokens.parquet", "eval_tokens.parquet", "eval_prompts.jsonl")
"""What models are trained and judged on; a rule's severity alone does not change it."""
NAME = "the training and evaluation rows"


def read_side(path: Path, total: int, label: str) -> Iterator[Conversation]:
    """Read the conversations of one side.

    Args:
        path: `train.jsonl` or `eval.jsonl`.
        total: Number of rows, for the progress bar.
        label: What the bar says.

    Yields:
        The conversations, in order.
    """
    for line in progress_bar(read_lines(path), total=total, label=label, unit="row"):
        yield Conversation.from_json(line)


def tokenise_sides(
    split: SplitReference, renderer: Renderer, quality: QualityConfig, folder: Path
) -> tuple[SideTokens, SideTokens]:
    """Write the tokens of the training and the evaluation rows.

    Args:
        split: Both sides.
        renderer: The prepared model's tokenizer and templates.
        quality: Rules and the longest row allowed.
        folder: Gets the two Parquet files and `eval_prompts.jsonl`.

    Returns:
        Counts and features of training and evaluation.
    """
    settings = set_rule_settings(quality.rules, quality.mode)
    sides = []
    for name, total in (("train", split.n_train_rows), ("eval", split.n_eval_rows)):
        prompts = folder / "eval_prompts.jsonl" if name == "eval" else None
        rows = read_side(locate(split, f"{name}.jsonl"), total, f"tokenise {name}")
        paths = (folder / f"{name}_tokens.parquet", prompts)
        sides.append(write_tokens(rows, renderer, settings, quality.max_length_tokens, paths))
    return sides[0], sides[1]


def place_sides(split: SplitReference) -> list[RowPlace]:
    """Reduce both sides to what rows are compared by.

    Args:
        split: Both sides.

    Returns:
        Places of the training rows, then of the evaluation rows.
    """
    return [
        *place_rows(
            read_side(locate(split, "train.jsonl"), split.n_train_rows, "compare"), Part.TRAIN
        ),
        *place_rows(
            read_side(locate(split, "eval.jsonl"), split.n_eval_rows, "compare"), Part.EVAL
        ),
    ]


def add_token_features(
    table: FeatureTable,
    places: list[RowPlace],
    sides: tuple[SideTokens, SideTokens],
    settings: Mapping[SetRule, RuleSetting],
) -> None:
    """Put the token features beside the others, and places to show for each token rule.

    Args:
        table: Gets the columns; its kept rows are in the order of `places`.
        places: Training rows, then evaluation rows.
        sides: Their tokens.
        settings: Severity per set rule.
    """
    features = [*sides[0].features, *sides[1].features]
    details = [*sides[0].details, *sides[1].details]
    rest = [NOT_APPLICABLE] * (len(table.columns["part"]) - len(features))
    for name in features[0]:
        table.columns[name] = [row[name] for row in features] + rest
    table.columns["is_usable"] = [float(not is_dropped(row, settings)) for row in features] + [
        0.0
    ] * len(rest)
    for rule, definition in SET_RULES.items():
        if definition.is_token_rule:
            for row, place, detail in zip(features, places, details, strict=True):
                if row[definition.column]:
                    table.show(rule, place, detail)


def _quarantine_examples(checked: CheckedReference) -> list[RuleExample]:
    lines = read_lines(locate(checked, "quarantine.jsonl"))
    return [
        RuleExample(file=line["file"], line=line["line"], detail=line["reason"])
        for line, _ in zip(lines, range(MOST_EXAMPLES), strict=False)
    ]


def judge(results: tuple[RuleResult, ...]) -> Verdict:
    """Sum rules up to one verdict.

    Args:
        results: What each rule found.

    Returns:
        The worst of them; skipped when no rule was looked at.
    """
    found = {result.verdict for result in results}
    order = (Verdict.FAILED, Verdict.WARNED, Verdict.PASSED)
    return next((verdict for verdict in order if verdict in found), Verdict.SKIPPED)


def _summary(
    results: tuple[RuleResult, ...], table: FeatureTable, sides: tuple[SideTokens, SideTokens]
) -> dict[str, Any]:
    """Lay out `quality.json`."""
    train, held_out = sides
    lengths = sorted(row["n_tokens"] for side in sides for row in side.features)
    return {
        "verdict": judge(results),
        "n_train_rows": train.n_rows,
        "n_eval_rows": held_out.n_rows,
        "n_dropped_train_rows": len(train.features) - train.n_rows,
        "n_dropped_eval_rows": len(held_out.features) - held_out.n_rows,
        "n_train_tokens": train.n_tokens,
        "n_supervised_tokens": train.n_supervised_tokens,
        "n_quarantined_rows": int(sum(table.columns["is_bad"])),
        "length_tokens": {
            "median": lengths[len(lengths) // 2],
            "longest": lengths[-1],
        },
        "rules": [result.model_dump(mode="json") for result in results],
    }


def refuse(
    results: tuple[RuleResult, ...], sides: tuple[SideTokens, SideTokens], n_rows: int
) -> DataRejected | None:
    """Say no when a blocking rule failed, or when nothing is left to train or to judge.

    Args:
        results: What each rule found.
        sides: Tokens of the training and the evaluation rows.
        n_rows: All rows.

    Returns:
        The refusal, or None when the set may be trained on.
    """
    failed = [result for result in results if result.verdict == Verdict.FAILED]
    if failed:
        return rejection("", failed, n_rows=n_rows, where=NAME)
    if sides[0].n_rows and sides[1].n_rows:
        return None
    side = "evaluation" if sides[0].n_rows else "training"
    token_rules = {str(rule) for rule, found in SET_RULES.items() if found.is_token_rule}
    broken = [result for result in results if result.id in token_rules and result.n_rows]
    first = next(iter(sides[side == "evaluation"].details), "")
    headline = f"no {side} row is left that can be tokenised and learned from ({first})."
    return rejection(headline, broken, n_rows=n_rows, where=NAME)


def gate_set(
    split: SplitReference,
    checked: CheckedReference,
    sides: tuple[SideTokens, SideTokens],
    quality: QualityConfig,
    folder: Path,
) -> tuple[RuleResult, ...]:
    """Build the feature table, hold it to the set rules and write down what was found.

    Args:
        split: Training and evaluation rows.
        checked: Counts and rows that were set aside.
        sides: Tokens of both sides.
        quality: Rules of the set gate.
        folder: Gets `features.parquet` and `quality.json`.

    Returns:
        What each rule found.
    """
    places = place_sides(split)
    table = compare_rows(places, checked.n_quarantined_rows, checked.n_rows)
    settings = set_rule_settings(quality.rules, quality.mode)
    add_token_features(table, places, sides, settings)
    table.examples[SetRule.BAD_ROW_FRACTION] = _quarantine_examples(checked)
    frame = table.frame()
    results = check_set(frame, settings, {r: tuple(found) for r, found in table.examples.items()})
    frame.to_parquet(folder / "features.parquet", index=False)
    summary = json.dumps(_summary(results, table, sides), indent=1)
    (folder / "quality.json").write_text(summary, encoding="utf-8")
    return results


@stage_task(
    timeout_seconds=4 * 3600,
    libraries=("great_expectations", "transformers", "tokenizers", "jinja2", "pandas", "pyarrow"),
)
def check_quality(
    output: OutputFolder,
    split: SplitReference,
    checked: CheckedReference,
    template: TemplateReference,
    quality: QualityConfig,
) -> QualityReference:
    """Tokenise the rows as they will be trained and hold the set to the set rules.

    Args:
        output: Gets `train_tokens.parquet`, `eval_tokens.parquet`, `eval_prompts.jsonl`,
            `features.parquet`, `quality.json`.
        split: Training and evaluation rows.
        checked: Counts and rows that were set aside.
        template: The prepared model.
        quality: Rules of the set gate.

    Returns:
        Reference to the tokens, with the verdict.

    Raises:
        DataRejected: A blocking rule failed, or no row is left.
    """
    renderer = load_renderer(locate(template, "model"), locate(template, "training_template.jinja"))
    sides = tokenise_sides(split, renderer, quality, output.path)
    results = gate_set(split, checked, sides, quality, output.path)
    refusal = refuse(results, sides, checked.n_rows)
    if refusal:
        refusal.where = str(keep_evidence(output, ("features.parquet", "quality.json")))
        raise refusal
    return output.commit(
        QualityReference,
        content=CONTENT,
        verdict=judge(results),
        n_train_rows=sides[0].n_rows,
        n_eval_rows=sides[1].n_rows,
        n_train_tokens=sides[0].n_tokens,
        n_supervised_tokens=sides[0].n_supervised_tokens,
        eval_sha256=sides[1].digest.hexdigest(),
        rules=results,
    )
