"""Tokenise the rows of every split as they will be trained, measured and evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from schemas.config.run import QualityConfig
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
) -> tuple[SplitTokens, ...]:
    """Write the tokens of the training, the evaluation and, where there are any, the validation rows.

    Args:
        split: All splits.
        renderer: The prepared model's tokenizer and templates.
        quality: Rules and the longest row allowed.
        weights: By name of the source; they count in training only.
        folder: Gets a Parquet file a split, `eval_prompts.jsonl` and `train_prompts.jsonl`.

    Returns:
        Counts and features of training, evaluation and validation.
    """
    outputs = {
        "train": TokenOutput(folder / "train_tokens.parquet", weights=weights),
        "eval": TokenOutput(folder / "eval_tokens.parquet", folder / "eval_prompts.jsonl"),
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
    limit = quality.max_length_tokens
    tokens = {}
    for name, output in outputs.items():
        rows = read_split(locate(split, f"{name}.jsonl"), totals[name], f"tokenise {name}")
        tokens[name] = write_tokens(rows, renderer, settings, limit, output)
    rows_path = locate(split, "train.jsonl")
    write_train_prompts(rows_path, tokens["train"], renderer, folder / "train_prompts.jsonl")
    return tuple(tokens.values())


def write_train_prompts(rows: Path, tokens: SplitTokens, renderer: Renderer, path: Path) -> None:
    """Write the prompts of the first rows that are trained, as the model will be asked them."""
    numbers = tokens.columns["is_written"].nonzero()[0][:MAX_TRAIN_PROMPTS].tolist()
    wanted = frozenset(numbers)
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for number, line in enumerate(islice(read_lines(rows), max(numbers, default=-1) + 1)):
            if number in wanted:
                prompt = render_prompt(renderer, Conversation.from_json(line))["prompt"]
                stream.write(json_line({"row": number, "prompt": prompt}))
