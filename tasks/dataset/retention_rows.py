"""Rows outside the domain, on which training must lose nothing: checked, rendered, never trained."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from schemas.base import FETCHED, Record
from schemas.config.run import DataSource, QualityConfig
from schemas.errors import ConfigError
from schemas.records.references import SplitReference
from schemas.rows.row import Conversation
from schemas.rule_ids import RowRule, Severity
from schemas.rules.set_rules import set_rule_settings
from tasks.dataset.pinned_rows import PinnedRules, write_pinned
from tasks.dataset.row_pass import SetPass
from tasks.dataset.split_columns import read_used_rows
from tasks.engine.jsonl import read_lines
from tasks.evaluation.retention import EXPECTED_COLUMN, asked_prompts, set_files
from tasks.evaluation.retention_scores import REFUSE
from tasks.rows.check import CheckRequest
from tasks.rows.feature_table import FeatureTable
from tasks.rows.features import FeatureRequest
from tasks.sources.source import source_fingerprint
from tasks.sources.stored_rows import kept_blocks
from tasks.tokens.rendering import Renderer
from tasks.tokens.split_tokens import refuse_longer_rows
from tasks.tokens.writing import TokenOutput, write_tokens

if TYPE_CHECKING:
    from tasks.engine.arrays import Flags

LEAST_ROWS = 20
"""Fewer give an interval too wide to show a loss."""


class RetentionRequest(Record):
    """The sets of `evaluation.retention`, and what their rows are checked against."""

    sources: Annotated[Mapping[str, str], FETCHED]
    pinned: PinnedRules

    @property
    def fingerprint(self) -> str:
        """Return text that changes with the rows."""
        found = (
            source_fingerprint({"source": DataSource(source=one)}) for one in self.sources.values()
        )
        return "\n".join(found)


@dataclass(frozen=True)
class RetentionSet:
    """What was written of one set."""

    n_rows: int
    n_trained_rows: int
    """Left out, because their prompts are in the data."""
    sha256: str


def write_retention(
    request: RetentionRequest,
    split: SplitReference,
    renderer: Renderer,
    quality: QualityConfig,
    folder: Path,
) -> dict[str, RetentionSet]:
    """Check the rows of every set, and tokenise those whose prompts are not in the data.

    Args:
        request: The sets.
        split: The rows that are trained and evaluated.
        renderer: The prepared model's tokenizer and templates.
        quality: Token rules and the longest row allowed.
        folder: Gets `set_files` of each set.

    Returns:
        What was written, by name of the set.
    """
    trained = read_used_rows(split)
    found = {}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for name, source in request.sources.items():
            where = f"evaluation.retention.{name}"
            path = Path(scratch) / f"{name}.jsonl"
            write_pinned(DataSource(source=source), path, request.pinned, where)
            is_trained = _are_trained(path, trained, Path(scratch) / name)
            found[name] = _tokenise(path, is_trained, where, renderer, quality, folder / name)
    return found


def _are_trained(path: Path, trained: FeatureTable, scratch: Path) -> Flags:
    """Mark the rows whose prompts are in the data.

    Shape:
        (rows,).
    """
    import numpy

    table = FeatureTable(scratch)
    request = CheckRequest(
        dict.fromkeys(RowRule, Severity.OFF), features=FeatureRequest(for_split=True)
    )
    SetPass(request, table, processes=1).run(kept_blocks(path))
    marks: Flags = numpy.isin(table.column("prompt"), trained.column("prompt"))
    return marks


def _tokenise(
    path: Path,
    is_trained: Flags,
    where: str,
    renderer: Renderer,
    quality: QualityConfig,
    target: Path,
) -> RetentionSet:
    """Write tokens and prompts of the rows that are not trained."""

    def conversations() -> Iterator[Conversation]:
        for line, is_left_out in zip(read_lines(path), is_trained, strict=True):
            if not is_left_out:
                yield _checked(Conversation.from_json(line), where)

    settings = set_rule_settings(quality.rules, quality.mode)
    limit = renderer.longest_row(quality.max_length_tokens)
    tokens_path, prompts_path = (target.with_name(file) for file in set_files(target.name))
    tokens = write_tokens(
        conversations(), renderer, settings, limit, TokenOutput(tokens_path, prompts_path)
    )
    n_trained = int(is_trained.sum())
    if tokens.n_dropped_rows:
        row = int((~tokens.columns["is_written"]).nonzero()[0][0])
        raise ConfigError(
            f"{tokens.n_dropped_rows} retention rows cannot be tokenised",
            where=where,
            expected="rows that the chat template of the model accepts, within quality.max_length_tokens",
            got=f"row {row + 1}: {tokens.detail(row)}",
            fix="change or remove these rows",
        )
    refuse_longer_rows(tokens, renderer.n_positions, where)
    _require_rows(tokens.n_rows, n_trained, target, where)
    return RetentionSet(tokens.n_rows, n_trained, tokens.digest.hexdigest())


def _require_rows(n_rows: int, n_trained: int, target: Path, where: str) -> None:
    """Refuse a set that is too small to say anything, before a model is loaded."""
    if n_rows < LEAST_ROWS:
        raise ConfigError(
            "too few retention rows",
            where=where,
            expected=f"at least {LEAST_ROWS} rows whose prompts are not in the training data",
            got=f"{n_rows} rows, and {n_trained} more whose prompts are in it",
            fix="add rows, or remove these prompts from the training data",
        )
    n_asked = len(asked_prompts(target.parent, [target.name]))
    if 0 < n_asked < LEAST_ROWS:
        raise ConfigError(
            f"too few retention rows have `{EXPECTED_COLUMN}`",
            where=where,
            expected=f"no row with `{EXPECTED_COLUMN}`, or at least {LEAST_ROWS} whose prompts are "
            "not in the training data",
            got=f"{n_asked} of {n_rows} rows, with {n_trained} more left out",
            fix=f"give more rows an `{EXPECTED_COLUMN}`, or remove the column",
        )


def _checked(conversation: Conversation, where: str) -> Conversation:
    """Refuse a pattern that is no regular expression, before a model is loaded."""
    expected = conversation.columns.get(EXPECTED_COLUMN)
    try:
        re.compile(str(expected or ""))
    except re.error as error:
        raise ConfigError(
            "a retention row has a wrong pattern",
            where=f"{where}, {conversation.file} line {conversation.line}",
            expected=f"a regular expression in `{EXPECTED_COLUMN}`, or {REFUSE}",
            got=f"{expected!r}: {error}",
            fix="correct the pattern",
        ) from error
    return conversation
