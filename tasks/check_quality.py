"""Stage `check_quality`: render and tokenise the rows of every split, and apply the set rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
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
from schemas.rule_ids import RuleExample, RuleResult, Verdict
from schemas.rules.profile import DataProfile
from schemas.rules.set_rules import SET_RULES
from tasks.dataset.comparisons import MOST_EXAMPLES
from tasks.dataset.profile import CHAMPION, NO_REFERENCE, read_reference
from tasks.dataset.refusal import keep_evidence, rejection
from tasks.dataset.retention_rows import RetentionRequest, RetentionSet, write_retention
from tasks.dataset.set_gate import CheckedRows, apply_set_rules, join_columns
from tasks.dataset.split_columns import (
    find_benchmark_rows,
    mark_eval_rows,
    read_used_rows,
    write_features,
)
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.jsonl import read_lines
from tasks.engine.stage import stage_task
from tasks.registry.champion import find_champion_data, read_champion_profile
from tasks.sources.source import source_fingerprint
from tasks.tokens.rendering import load_renderer
from tasks.tokens.split_tokens import tokenise_splits
from tasks.tokens.writing import SplitTokens

CONTENT = (
    "train_tokens.parquet",
    "train_prompts.jsonl",
    "validation_tokens.parquet",
    "eval_tokens.parquet",
    "eval_prompts.jsonl",
)
"""What models are trained and evaluated on; a rule's severity alone does not change it."""
NAME = "the training and evaluation rows"
TRAIN, EVAL, VALIDATION = range(3)
"""Places in what `tokenise_splits` returns."""


def _quarantine_examples(checked: CheckedReference) -> tuple[RuleExample, ...]:
    lines = read_lines(locate(checked, "quarantine.jsonl"))
    return tuple(
        RuleExample(file=line["file"], line=line["line"], detail=line["reason"])
        for line, _ in zip(lines, range(MOST_EXAMPLES), strict=False)
    )


def overall_verdict(results: Sequence[RuleResult]) -> Verdict:
    """Return the worst verdict; skipped when no rule was evaluated."""
    found = {result.verdict for result in results}
    order = (Verdict.FAILED, Verdict.WARNED, Verdict.PASSED)
    return next((verdict for verdict in order if verdict in found), Verdict.SKIPPED)


def _summary(
    results: Sequence[RuleResult],
    checked: CheckedReference,
    tokens: Sequence[SplitTokens],
    weights: Mapping[str, float],
) -> dict[str, Any]:
    """Collect `quality.json`."""
    by_name = dict(zip(("train", "eval", "validation"), tokens, strict=False))
    lengths = sorted(join_columns(tokens)["n_tokens"].tolist())
    return {
        "verdict": overall_verdict(results),
        **{f"n_{name}_rows": part.n_rows for name, part in by_name.items()},
        **{f"n_dropped_{name}_rows": part.n_dropped_rows for name, part in by_name.items()},
        "n_train_tokens": tokens[TRAIN].n_tokens,
        "n_supervised_tokens": tokens[TRAIN].n_supervised_tokens,
        "sources": [found.model_dump() for found in _source_tokens(tokens, weights)],
        "n_quarantined_rows": checked.n_quarantined_rows,
        "length_tokens": {
            "median": lengths[len(lengths) // 2],
            "longest": lengths[-1],
        },
        "rules": [result.model_dump(mode="json") for result in results],
    }


def _source_tokens(
    tokens: Sequence[SplitTokens], weights: Mapping[str, float]
) -> tuple[SourceTokens, ...]:
    """Count the rows and tokens of each named source that are trained."""
    return tuple(
        SourceTokens(name=name, weight=weights[name], n_rows=n_rows, n_tokens=n_tokens)
        for name, (n_rows, n_tokens) in tokens[TRAIN].sources.items()
    )


def _check_set(
    folder: Path,
    split: SplitReference,
    checked: CheckedReference,
    tokens: Sequence[SplitTokens],
    quality: QualityConfig,
    reference: DataProfile | None,
) -> tuple[RuleResult, ...]:
    """Apply the set rules; write `features.parquet` and `profile.json`."""
    rows = CheckedRows(
        read_used_rows(split),
        checked.n_quarantined_rows,
        _quarantine_examples(checked),
        checked.formats,
        checked.kept_sha256,
        tokens,
        find_benchmark_rows(split, quality),
    )
    results, profile = apply_set_rules(rows, quality, reference)
    write_features(rows.table, tokens, folder / "features.parquet")
    (folder / "profile.json").write_text(profile.model_dump_json(indent=1), encoding="utf-8")
    return results


def find_rejection(
    results: Sequence[RuleResult], tokens: Sequence[SplitTokens], n_rows: int
) -> DataRejected | None:
    """Reject the set when a blocking rule failed, or when a split is left without rows."""
    failed = [result for result in results if result.verdict == Verdict.FAILED]
    if failed:
        return rejection("", failed, n_rows=n_rows, where=NAME)
    names = ("training", "evaluation", "validation")
    for name, part in zip(names, tokens, strict=False):
        if not part.n_rows:
            token_rules = {str(rule) for rule, found in SET_RULES.items() if found.is_token_rule}
            broken = [result for result in results if result.id in token_rules and result.n_rows]
            first = part.detail(0) if part.n_dropped_rows else "no row"
            headline = f"no {name} row is left that can be tokenised and learned from ({first})."
            return rejection(headline, broken, n_rows=n_rows, where=NAME)
    return None


def quality_fingerprint(arguments: Mapping[str, Any]) -> str:
    """Fingerprint what the stage reads besides its arguments: rows of files, and the reference profile."""
    quality: QualityConfig = arguments["quality"]
    parts = [source_fingerprint({"source": DataSource(source=name)}) for name in quality.benchmarks]
    retention: RetentionRequest | None = arguments.get("retention")
    parts += [retention.fingerprint] if retention else []
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
    retention: RetentionRequest | None = None,
) -> QualityReference:
    """Tokenise the rows as they will be trained, and apply the set rules.

    Args:
        output: Gets `train_tokens.parquet`, `train_prompts.jsonl`, `eval_tokens.parquet`,
            `eval_prompts.jsonl`, `validation_tokens.parquet` where rows are kept for validation,
            `features.parquet`, `profile.json`, `quality.json`, and those of the retention sets.
        split: Training, evaluation and validation rows.
        checked: Counts, and the rows that were set aside.
        template: The prepared model.
        quality: Set rules and their limits.
        registry: Where the champion is, whose data this set is compared with.
        weights: By name of the source; empty for a single source.
        retention: Rows outside the domain that are measured too.

    Returns:
        Reference to the tokens, with the verdict.

    Raises:
        DataRejected: A blocking rule failed, or no row is left.
    """
    renderer = load_renderer(locate(template, "model"), locate(template, "training_template.jinja"))
    tokens = tokenise_splits(split, renderer, quality, weights, output.path, mark_eval_rows(split))
    reference = _reference(quality, registry, checked)
    results = _check_set(output.path, split, checked, tokens, quality, reference)
    retained: dict[str, RetentionSet] = {}
    if retention:
        retained = write_retention(retention, split, renderer, quality, output.path)
    summary = json.dumps(
        {
            **_summary(results, checked, tokens, weights),
            "retention": {name: asdict(found) for name, found in retained.items()},
        },
        indent=1,
    )
    (output.path / "quality.json").write_text(summary, encoding="utf-8")
    rejected = find_rejection(results, tokens, checked.n_rows)
    if rejected:
        rejected.where = str(keep_evidence(output, ("features.parquet", "quality.json")))
        raise rejected
    return output.commit(
        QualityReference,
        content=CONTENT,
        verdict=overall_verdict(results),
        n_train_rows=tokens[TRAIN].n_rows,
        n_eval_rows=tokens[EVAL].n_rows,
        n_validation_rows=tokens[VALIDATION].n_rows if split.n_validation_rows else 0,
        n_train_tokens=tokens[TRAIN].n_tokens,
        n_supervised_tokens=tokens[TRAIN].n_supervised_tokens,
        eval_sha256=tokens[EVAL].digest.hexdigest(),
        sources=_source_tokens(tokens, weights),
        retention_sha256={name: found.sha256 for name, found in retained.items()},
        rules=results,
    )
