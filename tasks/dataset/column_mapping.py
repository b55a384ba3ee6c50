"""Propose which columns of a source are prompt and answer, and check it on a sample of its rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from schemas.config.plain_yaml import yaml_text
from schemas.config.run import ColumnName, DataSource
from schemas.errors import DataSourceError
from schemas.rows.recognition import MARKS, as_list
from schemas.rows.row import SourceRow
from schemas.rules.row_rules import row_severities
from tasks.dataset._column_names import FAMILIES, INPUTS, LABELS, SYSTEMS, role_of
from tasks.engine.redaction import without_secrets
from tasks.rows.check import BlockOutcome, CheckRequest, check_block
from tasks.sources.parsing import Block, parse_block
from tasks.sources.source import SourceWatch, read_blocks

SAMPLE_ROWS = 1000
FEWEST_GUESSED = 5
"""Rows from which on the content of columns is compared."""
MOST_SHOWN = 20
LONGEST_SHOWN = 40
"""Characters of a column name in a message: a binary file may have one long line."""
ENOUGH, NEARLY_ALL = 0.5, 0.95
"""Share of rows that the row rules must keep with columns found by name, and by content."""
CLEARLY_LONGER = 2.0
ONLY_NUMBERS = re.compile(r"[\d\s.,:+/-]*")
FULL_WIDTH = re.compile("[\u2e80-\uffff]")
"""Writing without blanks between words."""
QUESTION_MARKS = ("?", "？", "؟")

Columns = Mapping[ColumnName, str]


@dataclass(frozen=True)
class Proposal:
    """How the columns of a source are to be read."""

    columns: Columns
    """Empty where the rows are in a known format."""
    reason: str
    seen: tuple[str, ...]
    """Columns of the sample in their order; a JSON document may have more further down."""
    outcome: BlockOutcome
    """What the row rules say to the sample, read like this."""

    @property
    def unused(self) -> tuple[str, ...]:
        """Columns that stay with the row and are not trained on, where some are mapped."""
        used = set(self.columns.values())
        return tuple(name for name in self.seen if name not in used) if used else ()


def propose_columns(source: DataSource) -> Proposal:
    """Read the first rows of a source and propose the mapping of its columns.

    The columns of the configured source are not guessed but checked. A proposal is made only
    if the row rules keep the sample's rows with it.

    Args:
        source: Where the rows come from.

    Returns:
        The mapping, with what the row rules say to it.

    Raises:
        DataSourceError: There is no row, or the columns fit no format or more than one mapping.
    """
    rows = _read_sample(source.model_copy(update={"columns": {}}))
    objects = [row.row for row in rows if isinstance(row.row, dict)]
    if not objects:
        raise _unreadable(source, rows[0])
    seen = tuple(dict.fromkeys(name for row in objects for name in row))
    if source.columns:
        return _check_given(source, rows, seen)
    outcome = _check(rows, {})
    if sum(outcome.formats.values()) > ENOUGH * len(objects):
        return Proposal({}, f"known format {', '.join(sorted(outcome.formats))}", seen, outcome)
    for columns, reason, least in _candidates(seen, objects):
        mapped = _check(rows, columns)
        if mapped.n_kept_rows > least * len(objects):
            return Proposal(columns, reason, seen, mapped)
    if known := [str(kind) for kind, marks in MARKS.items() if set(marks) <= set(seen)]:
        return Proposal({}, f"columns of the known format {known[0]}", seen, outcome)
    raise _not_mapped(source, seen, objects)


def _check_given(source: DataSource, rows: Sequence[SourceRow], seen: tuple[str, ...]) -> Proposal:
    """Check columns that are not guessed: they exist, and the row rules keep rows with them."""
    watch = SourceWatch(source)
    watch.see(len(rows), len(rows), seen)
    watch.finish()
    outcome = _check(rows, source.columns)
    if outcome.n_kept_rows:
        return Proposal(source.columns, "as given", seen, outcome)
    raise DataSourceError(
        f"the row rules keep none of the first {len(rows):,} rows with these columns",
        where="data.source.columns",
        got=", ".join(f"{ours}: {shown(theirs)}" for ours, theirs in source.columns.items())
        + f"; {broken_rules(outcome)}",
        fix="name other columns",
    )


def broken_rules(outcome: BlockOutcome) -> str:
    """List the rules that rows break, with the number of rows, the most frequent first."""
    return ", ".join(f"{rule} {count:,}" for rule, count in outcome.n_broken.most_common())


def _read_sample(source: DataSource) -> list[SourceRow]:
    """Read the first rows; those of a mapped source have our field names."""
    watch = SourceWatch(source)
    rows: list[SourceRow] = []
    for block in read_blocks(source):
        parsed = parse_block(block)
        watch.see(len(parsed.rows), parsed.n_objects, parsed.names)
        rows += islice(parsed.rows, SAMPLE_ROWS - len(rows))
        if len(rows) == SAMPLE_ROWS:
            break
    watch.finish()
    return rows


def _check(rows: Sequence[SourceRow], columns: Columns) -> BlockOutcome:
    block = Block("", 1, rows=tuple(rows), columns={str(ours): columns[ours] for ours in columns})
    return check_block(block, CheckRequest(row_severities({})))


def _candidates(
    seen: Sequence[str], rows: Sequence[dict[str, Any]]
) -> Iterator[tuple[Columns, str, float]]:
    """List mappings, the likeliest first: each with its reason and the share of rows it must keep."""
    for columns in _by_name(seen, rows):
        yield columns, "by the names of the columns", ENOUGH
    conversations = {name: kind for name in seen if (kind := _conversation_kind(name, rows))}
    if len(conversations) == 1:
        ((column, field),) = conversations.items()
        yield {field: column}, "the only column with lists of messages", NEARLY_ALL
    if not conversations and len(rows) >= FEWEST_GUESSED:
        texts = {name: values for name in seen if (values := _prose(name, rows))}
        if len(texts) == 2 and (found := _by_content(texts)):
            (prompt, completion), reason = found
            yield {"prompt": prompt, "completion": completion}, f"guessed: {reason}", NEARLY_ALL


def _by_name(seen: Sequence[str], rows: Sequence[dict[str, Any]]) -> Iterator[Columns]:
    """Combine columns whose names say what they are, within one family of names."""
    named: dict[str, str] = {}
    for column in seen:
        named.setdefault(role_of(column), column)
    for prompts, completions in FAMILIES:
        for completion in completions:
            for prompt in prompts:
                if prompt in named and completion in named:
                    pair = named[prompt], named[completion]
                    others = {
                        name: named[name] for name in named if name not in (prompt, completion)
                    }
                    if completion not in LABELS or not _is_numeric(pair[1], rows):
                        yield _with_context(pair, others, rows)


def _with_context(
    pair: tuple[str, str], others: Mapping[str, str], rows: Sequence[dict[str, Any]]
) -> Columns:
    """Map a pair as prompt and completion, or with an input or a system text as Alpaca."""
    added: dict[ColumnName, str] = {}
    fields: tuple[tuple[ColumnName, Sequence[str]], ...] = (("system", SYSTEMS), ("input", INPUTS))
    for field, names in fields:
        found = next((others[name] for name in names if name in others), None)
        if found is not None and _is_text(found, rows):
            added[field] = found
    if not added:
        return {"prompt": pair[0], "completion": pair[1]}
    return {"instruction": pair[0], **added, "output": pair[1]}


def _is_text(column: str, rows: Sequence[dict[str, Any]]) -> bool:
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(isinstance(value, str) for value in values)


def _is_numeric(column: str, rows: Sequence[dict[str, Any]]) -> bool:
    return all(ONLY_NUMBERS.fullmatch(str(row.get(column) or "")) for row in rows)


def _conversation_kind(column: str, rows: Sequence[dict[str, Any]]) -> ColumnName | None:
    """Return the field for a column whose every value is a list of messages; None for any other."""
    kinds: set[ColumnName | None] = set()
    for row in rows:
        turns = as_list(row.get(column))
        is_list = isinstance(turns, list) and turns and all(isinstance(t, dict) for t in turns)
        if is_list and all("role" in turn and "content" in turn for turn in turns):
            kinds.add("messages")
        elif is_list and all("from" in turn and "value" in turn for turn in turns):
            kinds.add("conversations")
        else:
            kinds.add(None)
    return kinds.pop() if len(kinds) == 1 else None


def _prose(column: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the values of a column of written text; empty for names, numbers, labels and ids."""
    values = [value for row in rows if isinstance(value := row.get(column), str) and value.strip()]
    wordy = [value for value in values if len(value.split()) > 1 or FULL_WIDTH.search(value)]
    worded = [value for value in wordy if not ONLY_NUMBERS.fullmatch(value)]
    is_prose = len(worded) >= NEARLY_ALL * len(rows) and len(set(values)) > ENOUGH * len(rows)
    return values if is_prose else []


def _by_content(texts: Mapping[str, list[str]]) -> tuple[tuple[str, str], str] | None:
    """Order two columns of text as prompt and completion; None where neither is clearly the prompt."""
    first, second = texts
    known_prompts = {name for prompts, _ in FAMILIES for name in prompts}
    known_completions = {name for _, completions in FAMILIES for name in completions}
    for known, is_prompt in ((known_prompts, True), (known_completions, False)):
        named = [name for name in texts if role_of(name) in known]
        if len(named) == 1:
            other = second if named[0] == first else first
            pair = (named[0], other) if is_prompt else (other, named[0])
            return pair, f"{shown(named[0])} by its name, {shown(other)} as the only other text"
    asked = {
        name: sum(value.rstrip().endswith(QUESTION_MARKS) for value in values) / len(values)
        for name, values in texts.items()
    }
    questions = [name for name in texts if asked[name] > ENOUGH]
    if len(questions) == 1:
        other = second if questions[0] == first else first
        return (questions[0], other), f"most texts of {shown(questions[0])} are questions"
    short, long = sorted(texts, key=lambda name: sum(map(len, texts[name])) / len(texts[name]))
    lengths = [sum(map(len, texts[name])) / len(texts[name]) for name in (short, long)]
    if lengths[1] >= CLEARLY_LONGER * lengths[0]:
        sizes = f"{lengths[1]:,.0f} characters on average against {lengths[0]:,.0f}"
        return (short, long), f"of the only two columns of text, {shown(long)} is longer: {sizes}"
    return None


def shown(name: str) -> str:
    """Shorten a column name for a message of one line."""
    clean = "".join(sign if sign.isprintable() else "\ufffd" for sign in name)
    short = clean if len(clean) <= LONGEST_SHOWN else f"{clean[:LONGEST_SHOWN]}…"
    return f'"{short}"' if re.search(r"[,;:()]|^\s*$", short) else short


def shown_list(names: Sequence[str]) -> str:
    """List column names for a message, the first ones if there are many."""
    more = f" and {len(names) - MOST_SHOWN:,} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(map(shown, names[:MOST_SHOWN])) + more


def _unreadable(source: DataSource, row: SourceRow) -> DataSourceError:
    return DataSourceError(
        f"no row of {without_secrets(source.source)} can be read",
        where=f"{row.file}:{row.line}",
        expected="rows with named columns, such as JSON objects or a table with a header",
        got=row.unparseable or f"a {type(row.row).__name__}",
        fix="check that the file is complete and of the kind that its name ends in; "
        "`sft-flow check` lists every row",
    )


def _not_mapped(
    source: DataSource, seen: Sequence[str], rows: Sequence[dict[str, Any]]
) -> DataSourceError:
    if "\ufffd" in "".join(seen) or any(sign in seen[0] for sign in ";\t|" if len(seen) == 1):
        raise DataSourceError(
            f"{without_secrets(source.source)} has no readable column names",
            where="the header",
            expected="names in UTF-8, in a .csv file separated by commas, in a .tsv file by tabs",
            got=shown_list(seen),
            fix="save the file in this form, or give it the ending of its kind",
        )
    texts = [name for name in seen if _prose(name, rows)]
    prompt, completion = texts[:2] if len(texts) > 1 else ("COLUMN", "COLUMN")
    example = f"{{prompt: {yaml_text(shown(prompt))}, completion: {yaml_text(shown(completion))}}}"
    return DataSourceError(
        f"the columns of {without_secrets(source.source)} fit no format, and it is not clear "
        "which of them are prompt and answer",
        where="data.source.columns",
        expected="messages, conversations, prompt and completion, question and answer, "
        "or instruction and output",
        got=f"columns {shown_list(seen)}",
        fix=f"name the columns, for example --columns '{example}'",
    )
