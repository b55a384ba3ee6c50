"""Write the rendered rows of one side and note what token rules need to know of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.quality import SET_RULES
from schemas.rows import Conversation
from schemas.rules import RuleSetting, SetRule, Severity
from tasks._lines import json_line
from tasks._rendering import RenderedRow, Renderer, render_prompt, render_row

BATCH_ROWS = 1000
"""Rows gathered before they are written."""


@dataclass
class SideTokens:
    """What was written of one side, and the features of every row of it."""

    n_rows: int = 0
    """Rows written; the others were dropped and are counted in the features."""
    n_tokens: int = 0
    n_supervised_tokens: int = 0
    features: list[dict[str, float]] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    """What to say of the row where it breaks a token rule."""
    digest: Any = field(default_factory=hashlib.sha256)
    """Of the rows written: ids, labels and prompts."""


def token_features(row: RenderedRow, max_length_tokens: int) -> dict[str, float]:
    """Measure one rendered row.

    Args:
        row: The row.
        max_length_tokens: Longest row allowed.

    Returns:
        Lengths in tokens, and 1 or 0 for each token rule: broken or kept. A row without trained
        tokens breaks that rule only, since the others say nothing of it.
    """
    is_trainable = row.n_supervised_tokens > 0
    return {
        "n_tokens": float(len(row.input_ids)),
        "n_supervised_tokens": float(row.n_supervised_tokens),
        "n_bos": float(row.n_bos),
        "is_untrainable": float(not is_trainable),
        "is_stop_unsupervised": float(is_trainable and not row.stop_is_supervised),
        "is_prompt_not_prefix": float(is_trainable and not row.prompt_is_prefix),
        "is_double_bos": float(row.n_bos > 1),
        "is_too_long": float(len(row.input_ids) > max_length_tokens),
    }


def is_dropped(features: Mapping[str, float], settings: Mapping[SetRule, RuleSetting]) -> bool:
    """Tell whether a row is left out of the tokens.

    Args:
        features: What `token_features` measured.
        settings: Severity per rule; a row that only breaks warnings stays.

    Returns:
        True when it breaks a blocking token rule, or has nothing to train whatever the rules say.
    """
    return features["is_untrainable"] > 0 or any(
        features[rule.column] > 0 and settings[name].severity == Severity.BLOCK
        for name, rule in SET_RULES.items()
        if rule.is_token_rule
    )


def write_tokens(
    conversations: Iterable[Conversation],
    renderer: Renderer,
    settings: Mapping[SetRule, RuleSetting],
    max_length_tokens: int,
    paths: tuple[Path, Path | None],
) -> SideTokens:
    """Render rows and write the tokens of those that stay.

    Args:
        conversations: Rows of one side, in order.
        renderer: The prepared model's tokenizer and templates.
        settings: Severity per set rule.
        max_length_tokens: Longest row allowed.
        paths: Parquet file for tokens, and JSONL file for evaluation prompts, if wanted.

    Returns:
        Counts, features and digest.
    """
    import pyarrow
    from pyarrow import parquet

    tokens = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema([("row", pyarrow.int64()), ("input_ids", tokens), ("labels", tokens)])
    side = SideTokens()
    waiting: list[dict[str, Any]] = []
    prompts: list[str] = []
    with parquet.ParquetWriter(paths[0], schema) as writer:
        for number, conversation in enumerate(conversations):
            row = render_row(renderer, conversation)
            side.features.append(token_features(row, max_length_tokens))
            side.details.append(row.problem or f"{len(row.input_ids)} tokens")
            if is_dropped(side.features[-1], settings):
                continue
            line = {"row": number, "input_ids": row.input_ids, "labels": row.labels}
            waiting.append(line)
            _count(side, row)
            side.digest.update(json_line(line).encode())
            if paths[1]:
                prompts.append(json_line({"row": number, **render_prompt(renderer, conversation)}))
                side.digest.update(prompts[-1].encode())
            if len(waiting) == BATCH_ROWS:
                writer.write_table(pyarrow.Table.from_pylist(waiting, schema))
                waiting.clear()
        writer.write_table(pyarrow.Table.from_pylist(waiting, schema))
    if paths[1]:
        paths[1].write_text("".join(prompts), encoding="utf-8", newline="\n")
    return side


def _count(side: SideTokens, row: RenderedRow) -> None:
    side.n_rows += 1
    side.n_tokens += len(row.input_ids)
    side.n_supervised_tokens += row.n_supervised_tokens
