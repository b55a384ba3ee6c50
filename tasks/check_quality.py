"""Stage `check_quality`: render and tokenise every side, and hold the set to the set rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.config.registry import RegistryConfig
from schemas.config.run import DataSource, QualityConfig
from schemas.errors import DataRejected
from schemas.records.references import (
    CheckedReference,
    QualityReference,
    SourceTokens,
    SplitReference,
    TemplateReference,
)
from schemas.rule_ids import RuleExample, RuleResult, SetRule, Verdict
from schemas.rules.check_set import SetContext, check_set
from schemas.rules.profile import DataProfile
from schemas.rules.set_rules import SET_RULES, set_rule_settings
from tasks.dataset.comparisons import MOST_EXAMPLES
from tasks.dataset.profile import CHAMPION, NO_REFERENCE, make_profile, read_reference
from tasks.dataset.refusal import keep_evidence, rejection
from tasks.dataset.split_columns import (
    Sides,
    add_token_columns,
    compare_splits,
    join_columns,
    write_features,
)
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.jsonl import read_lines
from tasks.engine.stage import stage_task
from tasks.registry.champion import find_champion_data, read_champion_profile
from tasks.sources.source import source_fingerprint
from tasks.tokens.rendering import load_renderer
from tasks.tokens.split_tokens import tokenise_splits

CONTENT = (
    "train_tokens.parquet",
    "train_prompts.jsonl",
    "validation_tokens.parquet",
    "eval_tokens.parquet",
    "eval_prompts.jsonl",
)
"""What models are trained and judged on; a rule's severity alone does not change it."""
NAME = "the training and evaluation rows"
TRAIN, EVAL, VALIDATION = range(3)
"""Places in `Sides`."""


def _quarantine_examples(checked: CheckedReference) -> tuple[RuleExample, ...]:
    lines = read_lines(locate(checked, "quarantine.jsonl"))
    return tuple(
        RuleExample(file=line["file"], line=line["line"], detail=line["reason"])
        for line, _ in zip(lines, range(MOST_EXAMPLES), strict=False)
    )


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
    results: tuple[RuleResult, ...],
    checked: CheckedReference,
    sides: Sides,
    weights: Mapping[str, float],
) -> dict[str, Any]:
    """Lay out `quality.json`."""
    names = ("train", "eval", "validation")[: len(sides)]
    n_dropped = [len(side.columns["is_written"]) - side.n_rows for side in sides]
    lengths = sorted(join_columns(sides)["n_tokens"].tolist())
    return {
        "verdict": judge(results),
        **{f"n_{name}_rows": side.n_rows for name, side in zip(names, sides, strict=True)},
        **{f"n_dropped_{name}_rows": count for name, count in zip(names, n_dropped, strict=True)},
        "n_train_tokens": sides[TRAIN].n_tokens,
        "n_supervised_tokens": sides[TRAIN].n_supervised_tokens,
        "sources": [found.model_dump() for found in _source_tokens(sides, weights)],
        "n_quarantined_rows": checked.n_quarantined_rows,
        "length_tokens": {
            "median": lengths[len(lengths) // 2],
            "longest": lengths[-1],
        },
        "rules": [result.model_dump(mode="json") for result in results],
    }


def _source_tokens(sides: Sides, weights: Mapping[str, float]) -> tuple[SourceTokens, ...]:
    """Count what each named source gives to the training."""
    return tuple(
        SourceTokens(name=name, weight=weights[name], n_rows=n_rows, n_tokens=n_tokens)
        for name, (n_rows, n_tokens) in sides[TRAIN].sources.items()
    )


def refuse(results: tuple[RuleResult, ...], sides: Sides, n_rows: int) -> DataRejected | None:
    """Say no when a blocking rule failed, or when a side is left without rows.

    Args:
        results: What each rule found.
        sides: Tokens of each side.
        n_rows: All rows.

    Returns:
        The refusal, or None when the set may be trained on.
    """
    failed = [result for result in results if result.verdict == Verdict.FAILED]
    if failed:
        return rejection("", failed, n_rows=n_rows, where=NAME)
    names = ("training", "evaluation", "validation")
    empty = [(name, side) for name, side in zip(names, sides, strict=False) if not side.n_rows]
    if not empty:
        return None
    name, tokens = empty[0]
    token_rules = {str(rule) for rule, found in SET_RULES.items() if found.is_token_rule}
    broken = [result for result in results if result.id in token_rules and result.n_rows]
    first = tokens.detail(0) if len(tokens.columns["is_written"]) else "no row"
    headline = f"no {name} row is left that can be tokenised and learned from ({first})."
    return rejection(headline, broken, n_rows=n_rows, where=NAME)


@dataclass(frozen=True)
class PartedSet:
    """The set as it stands before the gate."""

    split: SplitReference
    checked: CheckedReference
    sides: Sides
    weights: Mapping[str, float]
    """Of the sources by name; empty where there is but one."""


def gate_set(
    parted: PartedSet, quality: QualityConfig, reference: DataProfile | None, folder: Path
) -> tuple[RuleResult, ...]:
    """Hold the set to the set rules and write down what was found.

    Args:
        parted: Rows and tokens of every side.
        quality: Rules of the set gate.
        reference: Profile of the champion's data, if there is one to compare with.
        folder: Gets `features.parquet`, `profile.json` and `quality.json`.

    Returns:
        What each rule found.
    """
    split, checked, sides = parted.split, parted.checked, parted.sides
    settings = set_rule_settings(quality.rules, quality.mode)
    table, found = compare_splits(split, checked, quality, settings)
    add_token_columns(found, table, sides)
    found.examples[SetRule.BAD_ROW_FRACTION] = _quarantine_examples(checked)
    profile = make_profile(table, checked.formats, checked.kept_sha256)
    context = SetContext(length_quantiles=quality.length_quantiles, profile=profile)
    results = check_set(found.columns, settings, found.examples, reference, context)
    write_features(table, sides, folder / "features.parquet")
    (folder / "profile.json").write_text(profile.model_dump_json(indent=1), encoding="utf-8")
    summary = json.dumps(_summary(results, checked, sides, parted.weights), indent=1)
    (folder / "quality.json").write_text(summary, encoding="utf-8")
    return results


def quality_fingerprint(arguments: Mapping[str, Any]) -> str:
    """Name what the stage reads beside its arguments: benchmarks and the profile compared with.

    Args:
        arguments: The stage's, by name.

    Returns:
        Text that changes when one of them does.
    """
    quality: QualityConfig = arguments["quality"]
    parts = [source_fingerprint({"source": DataSource(source=name)}) for name in quality.benchmarks]
    if quality.reference == CHAMPION:
        champion = find_champion_data(arguments["registry"], arguments["checked"].kept_sha256)
        parts.append(f"version {champion.version} {champion.run_id}" if champion else "")
    elif quality.reference != NO_REFERENCE:
        profile = read_reference(quality.reference)
        parts.append(profile.model_dump_json() if profile else "")
    return "\n".join(parts)


def _reference(
    quality: QualityConfig, registry: RegistryConfig, checked: CheckedReference
) -> DataProfile | None:
    if quality.reference != CHAMPION:
        return read_reference(quality.reference)
    champion = find_champion_data(registry, checked.kept_sha256)
    return read_champion_profile(champion) if champion else None


@stage_task(
    timeout_seconds=4 * 3600,
    libraries=("great_expectations", "transformers", "tokenizers", "jinja2", "pandas", "pyarrow"),
    fingerprint=quality_fingerprint,
)
def check_quality(
    output: OutputFolder,
    split: SplitReference,
    checked: CheckedReference,
    template: TemplateReference,
    quality: QualityConfig,
    registry: RegistryConfig,
    weights: dict[str, float],
) -> QualityReference:
    """Tokenise the rows as they will be trained and hold the set to the set rules.

    Args:
        output: Gets `train_tokens.parquet`, `train_prompts.jsonl`, `eval_tokens.parquet`,
            `eval_prompts.jsonl`, `validation_tokens.parquet` where rows are kept for validation,
            `features.parquet`, `profile.json`, `quality.json`.
        split: Training, evaluation and validation rows.
        checked: Counts and rows that were set aside.
        template: The prepared model.
        quality: Rules of the set gate.
        registry: Where the champion is, whose data this set is held against.
        weights: Of the sources by name; empty where there is but one.

    Returns:
        Reference to the tokens, with the verdict.

    Raises:
        DataRejected: A blocking rule failed, or no row is left.
    """
    renderer = load_renderer(locate(template, "model"), locate(template, "training_template.jinja"))
    sides = tokenise_splits(split, renderer, quality, weights, output.path)
    reference = _reference(quality, registry, checked)
    parted = PartedSet(split, checked, sides, weights)
    results = gate_set(parted, quality, reference, output.path)
    refusal = refuse(results, sides, checked.n_rows)
    if refusal:
        refusal.where = str(keep_evidence(output, ("features.parquet", "quality.json")))
        raise refusal
    return output.commit(
        QualityReference,
        content=CONTENT,
        verdict=judge(results),
        n_train_rows=sides[TRAIN].n_rows,
        n_eval_rows=sides[EVAL].n_rows,
        n_validation_rows=sides[VALIDATION].n_rows if split.n_validation_rows else 0,
        n_train_tokens=sides[TRAIN].n_tokens,
        n_supervised_tokens=sides[TRAIN].n_supervised_tokens,
        eval_sha256=sides[EVAL].digest.hexdigest(),
        sources=_source_tokens(sides, weights),
        rules=results,
    )
