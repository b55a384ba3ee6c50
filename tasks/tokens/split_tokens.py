"""Tokenise the rows of every split as they will be trained, measured and evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from schemas.config.run import QualityConfig
from schemas.errors import ConfigError
from schemas.records.references import SplitReference
from schemas.rows.row import Conversation
from schemas.rules.set_rules import set_rule_settings
from tasks.engine.cache import locate
from tasks.engine.jsonl import json_line, read_lines
from tasks.engine.progress import progress_bar
from tasks.tokens.rendering import Renderer, render_prompt
from tasks.tokens.writing import SplitTokens, TokenOutput, write_tokens

MAX_TRAIN_PROMPTS = 64
"""Training rows whose prompts are kept, to compare what is trained with what will be asked."""


def read_split(path: Path, total: int, label: str) -> Iterator[Conversation]:
    """Read the conversations of one split, in order, with a labelled progress bar."""
    for line in progress_bar(read_lines(path), total=total, label=label, unit="row"):
        yield Conversation.from_json(line)


def tokenise_splits(
    split: SplitReference,
    renderer: Renderer,
    quality: QualityConfig,
    weights: Mapping[str, float],
    folder: Path,
    eval_marks: Sequence[Mapping[str, Any]] = (),
) -> tuple[SplitTokens, ...]:
    """Write the tokens of the training, the evaluation and, where there are any, the validation rows.

    Args:
        split: All splits.
        renderer: The prepared model's tokenizer and templates.
        quality: Rules and the longest row allowed.
        weights: By name of the source; they count in training only.
        folder: Gets a Parquet file a split, `eval_prompts.jsonl` and `train_prompts.jsonl`.
        eval_marks: Of each evaluation row: more fields for its line of `eval_prompts.jsonl`.

    Returns:
        Counts and features of training, evaluation and validation.

    Raises:
        ConfigError: A row that stays is longer than the model has positions.
    """
    outputs = {
        "train": TokenOutput(folder / "train_tokens.parquet", weights=weights),
        "eval": TokenOutput(
            folder / "eval_tokens.parquet", folder / "eval_prompts.jsonl", marks=eval_marks
        ),
        "validation": TokenOutput(folder / "validation_tokens.parquet"),
    }
    totals = {
        "train": split.n_train_rows,
        "eval": split.n_eval_rows,
        "validation": split.n_validation_rows,
    }
    if not split.n_validation_rows:
        del outputs["validation"]
    settings = set_rule_settings(quality.rules, quality.mode)
    limit = renderer.longest_row(quality.max_length_tokens)
    tokens = {}
    for name, output in outputs.items():
        rows = read_split(locate(split, f"{name}.jsonl"), totals[name], f"tokenise {name}")
        tokens[name] = write_tokens(rows, renderer, settings, limit, output)
        refuse_longer_rows(tokens[name], renderer.n_positions)
    rows_path = locate(split, "train.jsonl")
    write_train_prompts(rows_path, tokens["train"], renderer, folder / "train_prompts.jsonl")
    return tuple(tokens.values())


def refuse_longer_rows(
    tokens: SplitTokens, n_positions: int | None, where: str = "quality.rules"
) -> None:
    """Refuse rows that the model has no positions for, where rule too_long lets them through.

    Args:
        tokens: What was written of a split.
        n_positions: Of the model; None for any number.
        where: The setting that names the rows.

    Raises:
        ConfigError: A row to be trained or evaluated is longer.
    """
    lengths = tokens.columns["n_tokens"][tokens.columns["is_written"]]
    longest = int(lengths.max(initial=0))
    if n_positions is not None and longest > n_positions:
        raise ConfigError(
            "rows are longer than the model has positions",
            where=where,
            expected=f"at most {n_positions} tokens",
            got=f"{int((lengths > n_positions).sum())} longer rows, the longest of {longest} tokens",
            fix="let rules too_long and truncated_completion of quality.rules block, which finds such rows",
        )


def write_train_prompts(rows: Path, tokens: SplitTokens, renderer: Renderer, path: Path) -> None:
    """Write the prompts of the first rows that are trained, as the model will be asked them."""
    numbers = tokens.columns["is_written"].nonzero()[0][:MAX_TRAIN_PROMPTS].tolist()
    wanted = frozenset(numbers)
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for number, line in enumerate(islice(read_lines(rows), max(numbers, default=-1) + 1)):
            if number in wanted:
                prompt = render_prompt(renderer, Conversation.from_json(line))["prompt"]
                stream.write(json_line({"row": number, "prompt": prompt}))
