"""Write the rendered rows of one split and what the token rules need of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from schemas.rows.row import Conversation
from schemas.rule_ids import RuleSetting, SetRule, Severity
from schemas.rules.set_rules import SET_RULES
from tasks.engine.jsonl import json_line
from tasks.sources.mixture import source_name
from tasks.tokens.rendering import RenderedRow, Renderer, asked_messages, render_prompt, render_rows
from tasks.tokens.token_file import NOT_TRAINED

if TYPE_CHECKING:
    from pyarrow import Schema
    from pyarrow.parquet import ParquetWriter

    from tasks.engine.arrays import Array, Flags

BATCH_ROWS = 1000
"""Rows gathered before they are written."""
MAX_PROBLEMS = 1000
"""Refused rows whose reason is kept; when a template refuses all rows, one reason is enough."""
MAX_BOS = 255
RENDERING_RULES = (
    SetRule.CONTENT_NOT_RENDERED,
    SetRule.FIELD_NOT_RENDERED,
    SetRule.TURN_NOT_TRAINED,
)
"""Rules on what the template left out, which the rendered row names."""


@dataclass(frozen=True)
class TokenOutput:
    """What to write of one split."""

    tokens: Path | None = None
    """Parquet file for tokens."""
    prompts: Path | None = None
    """JSONL file for evaluation prompts."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """By name of the source; where one is not 1, tokens get the column `weight`."""
    marks: Sequence[Mapping[str, Any]] = ()
    """Of each row of the split: more fields for the line of its prompt."""

    @property
    def is_weighted(self) -> bool:
        """Return whether some rows count more than others."""
        return any(weight != 1 for weight in self.weights.values())


@dataclass
class SplitTokens:
    """What was written of one split, and the features of its rows."""

    n_rows: int = 0
    """Rows written; the others were dropped and are counted in the columns."""
    n_tokens: int = 0
    n_supervised_tokens: int = 0
    columns: dict[str, Array] = field(default_factory=dict)
    """By name, see `token_columns`, and `is_written`; one entry a row, 19 bytes together."""
    problems: dict[int, str] = field(default_factory=dict)
    """Why the template refused a row, for the first of them."""
    findings: dict[SetRule, dict[int, str]] = field(default_factory=dict)
    """What the template left out of a row, for the first of them, by rule."""
    digest: Any = field(default_factory=hashlib.sha256)
    """Of the rows written, where prompts are too: ids, labels and prompts."""
    sources: dict[str, list[int]] = field(default_factory=dict)
    """Rows and tokens written of each named source, where weights are given."""

    @property
    def n_dropped_rows(self) -> int:
        """Count the rows that were not written."""
        return len(self.columns["is_written"]) - self.n_rows

    def detail(self, row: int, rule: SetRule = SetRule.CONTENT_NOT_RENDERED) -> str:
        """Return what is wrong with a row, written or not: what the rule found, or its length."""
        n_tokens = int(self.columns["n_tokens"][row])
        untrained = self.findings.get(SetRule.NO_SUPERVISED_TOKENS, {})
        found = self.findings.get(rule, {}).get(row) or self.problems.get(row) or untrained.get(row)
        return found or (f"{n_tokens} tokens" if n_tokens else "no tokens")


def token_columns(rows: Sequence[RenderedRow], max_length_tokens: int) -> dict[str, Array]:
    """Measure rendered rows.

    Args:
        rows: The rows.
        max_length_tokens: Longest row allowed.

    Returns:
        Lengths in tokens, and for each token rule whether a row breaks it. A row without trained
        tokens breaks that rule only, since the others do not apply to it.

    Shape:
        Every column: (rows,).
    """
    import numpy

    n_tokens = numpy.array([len(row.input_ids) for row in rows], dtype=numpy.uint32)
    n_supervised = numpy.array([row.n_supervised_tokens for row in rows], dtype=numpy.uint32)
    ends = numpy.array([row.supervised_end for row in rows], dtype=numpy.uint32)
    n_bos = numpy.array([min(row.n_bos, MAX_BOS) for row in rows], dtype=numpy.uint8)
    has_stop = numpy.array([row.stop_is_supervised for row in rows], dtype=bool)
    is_prefix = numpy.array([row.prompt_is_prefix for row in rows], dtype=bool)
    is_trainable = n_supervised > 0
    return {
        "n_tokens": n_tokens,
        "n_supervised_tokens": n_supervised,
        "n_bos": n_bos,
        "is_untrainable": ~is_trainable,
        "is_truncated_completion": ends > max_length_tokens,
        "is_stop_unsupervised": is_trainable & ~has_stop,
        "is_prompt_not_prefix": is_trainable & ~is_prefix,
        "is_double_bos": n_bos > 1,
        "is_too_long": n_tokens > max_length_tokens,
        **{
            SET_RULES[rule].column: numpy.array([rule in row.findings for row in rows], dtype=bool)
            for rule in RENDERING_RULES
        },
    }


def dropped_rows(columns: Mapping[str, Array], settings: Mapping[SetRule, RuleSetting]) -> Flags:
    """Mark the rows that are left out of the tokens.

    Args:
        columns: What `token_columns` measured.
        settings: Severity per rule; a row that only breaks warnings stays.

    Returns:
        True for a row that breaks a blocking token rule, or has nothing to train whatever the
        rules say.

    Shape:
        (rows,).
    """
    is_dropped = columns["is_untrainable"].copy()
    for name, rule in SET_RULES.items():
        if rule.is_token_rule and settings[name].severity == Severity.BLOCK:
            is_dropped |= columns[rule.column]
    return is_dropped


def write_tokens(
    conversations: Iterable[Conversation],
    renderer: Renderer,
    settings: Mapping[SetRule, RuleSetting],
    max_length_tokens: int,
    output: TokenOutput,
) -> SplitTokens:
    """Render rows and write the tokens of those that stay.

    Args:
        conversations: Rows of one split, in order.
        renderer: The prepared model's tokenizer and templates.
        settings: Severity per set rule.
        max_length_tokens: Longest row allowed.
        output: What to write.

    Returns:
        Counts, columns, digest.
    """
    tokens = SplitTokens()
    parts = [_measure([], settings, max_length_tokens)]
    n_seen = 0
    pairs = render_rows(renderer, conversations)
    with _open_files(output) as files:
        while batch := list(islice(pairs, BATCH_ROWS)):
            rows = [row for _, row in batch]
            parts.append(_measure(rows, settings, max_length_tokens))
            kept = [int(place) for place in parts[-1]["is_written"].nonzero()[0]]
            files.write(
                [n_seen + place for place in kept],
                [rows[place] for place in kept],
                [source_name(batch[place][0].file) for place in kept],
            )
            for place in kept if files.prompts else ():
                files.write_prompt(n_seen + place, renderer, *batch[place])
            for place, row in enumerate(rows):
                if row.problem and len(tokens.problems) < MAX_PROBLEMS:
                    tokens.problems[n_seen + place] = row.problem
                for rule, detail in row.findings.items():
                    details = tokens.findings.setdefault(rule, {})
                    if len(details) < MAX_PROBLEMS:
                        details[n_seen + place] = detail
            n_seen += len(rows)
    tokens.digest = files.digest
    tokens.sources = files.sources
    _sum_up(tokens, parts)
    return tokens


def _measure(
    rows: Sequence[RenderedRow], settings: Mapping[SetRule, RuleSetting], max_length_tokens: int
) -> dict[str, Array]:
    columns = token_columns(rows, max_length_tokens)
    columns["is_written"] = ~dropped_rows(columns, settings)
    return columns


def _sum_up(tokens: SplitTokens, parts: list[dict[str, Array]]) -> None:
    import numpy

    for name in list(parts[0]):
        tokens.columns[name] = numpy.concatenate([part.pop(name) for part in parts])
    is_written = tokens.columns["is_written"]
    tokens.n_rows = int(is_written.sum())
    tokens.n_tokens = int(tokens.columns["n_tokens"][is_written].sum())
    tokens.n_supervised_tokens = int(tokens.columns["n_supervised_tokens"][is_written].sum())


@dataclass
class _SplitFiles:
    """Open files of one split."""

    tokens: ParquetWriter | None
    prompts: TextIO | None
    schema: Schema
    output: TokenOutput
    digest: Any = field(default_factory=hashlib.sha256)
    sources: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start the counts at zero."""
        self.sources = {name: [0, 0] for name in self.output.weights}

    def write(self, numbers: list[int], rows: list[RenderedRow], sources: list[str]) -> None:
        """Write the tokens of some rows, and count them by source."""
        import numpy
        import pyarrow

        if self.tokens is None:
            return
        if self.sources:
            for source, row in zip(sources, rows, strict=True):
                self.sources[source][0] += 1
                self.sources[source][1] += len(row.input_ids)
        lengths = [len(row.input_ids) for row in rows]
        starts = numpy.zeros(len(rows) + 1, dtype=numpy.int32)
        numpy.cumsum(lengths, out=starts[1:])
        all_ids = chain.from_iterable(row.input_ids for row in rows)
        ids = numpy.fromiter(all_ids, dtype=numpy.int32, count=int(starts[-1]))
        labels = numpy.full(len(ids), NOT_TRAINED, dtype=numpy.int32)
        for row, offset in zip(rows, starts.tolist(), strict=False):
            for start, end in row.spans:
                labels[offset + start : offset + end] = ids[offset + start : offset + end]
        columns = [
            pyarrow.array(numbers, pyarrow.int64()),
            pyarrow.ListArray.from_arrays(starts, ids),
            pyarrow.ListArray.from_arrays(starts, labels),
        ]
        if self.output.is_weighted:
            weights = [self.output.weights[source] for source in sources]
            columns.append(pyarrow.array(weights, pyarrow.float32()))
        self.tokens.write_table(pyarrow.Table.from_arrays(columns, schema=self.schema))

    def write_prompt(
        self, number: int, renderer: Renderer, conversation: Conversation, row: RenderedRow
    ) -> None:
        """Write what the model is asked, and add it and the row's tokens to the digest.

        The messages are for a server that renders them; the digest has the rendered prompt.
        """
        line = {"row": number, "input_ids": row.input_ids, "labels": row.labels}
        self.digest.update(json_line(line).encode())
        prompt = {"row": number, **render_prompt(renderer, conversation)}
        self.digest.update(json_line(prompt).encode())
        if self.prompts:
            marks = self.output.marks[number] if self.output.marks else {}
            asked = asked_messages(renderer, conversation)
            self.prompts.write(json_line({**prompt, **asked, **marks}))


@contextmanager
def _open_files(output: TokenOutput) -> Iterator[_SplitFiles]:
    """Open the requested files."""
    import pyarrow
    from pyarrow import parquet

    tokens = pyarrow.list_(pyarrow.int32())
    columns = [("row", pyarrow.int64()), ("input_ids", tokens), ("labels", tokens)]
    schema = pyarrow.schema(columns + [("weight", pyarrow.float32())] * output.is_weighted)
    with ExitStack() as stack:
        writer = prompts = None
        if output.tokens:
            writer = stack.enter_context(parquet.ParquetWriter(output.tokens, schema))
        if output.prompts:
            prompts = stack.enter_context(output.prompts.open("w", encoding="utf-8", newline="\n"))
        yield _SplitFiles(writer, prompts, schema, output)
