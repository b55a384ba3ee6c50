"""Stage `check_quality`: render and tokenise both sides, and hold the set to the set rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import DataRejected
from schemas.profile import DataProfile
from schemas.quality import SET_RULES, SetContext, check_set, set_rule_settings
from schemas.records import CheckedReference, QualityReference, SplitReference, TemplateReference
from schemas.rows import Conversation
from schemas.rules import RuleExample, RuleResult, SetRule, Verdict
from schemas.run_config import DataSource, QualityConfig, RegistryConfig
from tasks._cache import OutputFolder, locate
from tasks._champion import find_champion_data, read_champion_profile
from tasks._comparisons import MOST_EXAMPLES
from tasks._lines import read_lines
from tasks._progress import progress_bar
from tasks._rejection import keep_evidence, rejection
from tasks._rendering import Renderer, load_renderer
from tasks._set_profile import CHAMPION, NO_REFERENCE, make_profile, read_reference
from tasks._sides import add_token_columns, compare_sides, join_columns, write_features
from tasks._sources import source_fingerprint
from tasks._stage import stage_task
from tasks._tokens import SideTokens, write_tokens

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
    sides: tuple[SideTokens, SideTokens],
) -> dict[str, Any]:
    """Lay out `quality.json`."""
    train, held_out = sides
    lengths = sorted(join_columns(sides)["n_tokens"].tolist())
    return {
        "verdict": judge(results),
        "n_train_rows": train.n_rows,
        "n_eval_rows": held_out.n_rows,
        "n_dropped_train_rows": len(train.columns["is_written"]) - train.n_rows,
        "n_dropped_eval_rows": len(held_out.columns["is_written"]) - held_out.n_rows,
        "n_train_tokens": train.n_tokens,
        "n_supervised_tokens": train.n_supervised_tokens,
        "n_quarantined_rows": checked.n_quarantined_rows,
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
    tokens = sides[side == "evaluation"]
    first = tokens.detail(0) if len(tokens.columns["is_written"]) else "no row"
    headline = f"no {side} row is left that can be tokenised and learned from ({first})."
    return rejection(headline, broken, n_rows=n_rows, where=NAME)


@dataclass(frozen=True)
class PartedSet:
    """The set as it stands before the gate."""

    split: SplitReference
    checked: CheckedReference
    sides: tuple[SideTokens, SideTokens]
    """Tokens of the training and the evaluation rows."""


def gate_set(
    parted: PartedSet, quality: QualityConfig, reference: DataProfile | None, folder: Path
) -> tuple[RuleResult, ...]:
    """Hold the set to the set rules and write down what was found.

    Args:
        parted: Rows and tokens of both sides.
        quality: Rules of the set gate.
        reference: Profile of the champion's data, if there is one to compare with.
        folder: Gets `features.parquet`, `profile.json` and `quality.json`.

    Returns:
        What each rule found.
    """
    split, checked, sides = parted.split, parted.checked, parted.sides
    settings = set_rule_settings(quality.rules, quality.mode)
    table, found = compare_sides(split, checked, quality, settings)
    add_token_columns(found, table, sides)
    found.examples[SetRule.BAD_ROW_FRACTION] = _quarantine_examples(checked)
    profile = make_profile(table, checked.formats, checked.kept_sha256)
    context = SetContext(length_quantiles=quality.length_quantiles, profile=profile)
    results = check_set(found.columns, settings, found.examples, reference, context)
    write_features(table, sides, folder / "features.parquet")
    (folder / "profile.json").write_text(profile.model_dump_json(indent=1), encoding="utf-8")
    summary = json.dumps(_summary(results, checked, sides), indent=1)
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
) -> QualityReference:
    """Tokenise the rows as they will be trained and hold the set to the set rules.

    Args:
        output: Gets `train_tokens.parquet`, `eval_tokens.parquet`, `eval_prompts.jsonl`,
            `features.parquet`, `profile.json`, `quality.json`.
        split: Training and evaluation rows.
        checked: Counts and rows that were set aside.
        template: The prepared model.
        quality: Rules of the set gate.
        registry: Where the champion is, whose data this set is held against.

    Returns:
        Reference to the tokens, with the verdict.

    Raises:
        DataRejected: A blocking rule failed, or no row is left.
    """
    renderer = load_renderer(locate(template, "model"), locate(template, "training_template.jinja"))
    sides = tokenise_sides(split, renderer, quality, output.path)
    reference = _reference(quality, registry, checked)
    results = gate_set(PartedSet(split, checked, sides), quality, reference, output.path)
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
