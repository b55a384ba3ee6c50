"""What the set rules look at without tokens: repeats, contradictions, boilerplate and lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.rule_ids import RuleExample, SetRule
from tasks.rows.feature_table import FeatureTable

if TYPE_CHECKING:
    from tasks.engine.arrays import Array, Flags, Hashes, Numbers

MOST_EXAMPLES = 5
MIN_BOILERPLATE_PROMPTS = 3
"""An answer that so many different prompts share is boilerplate, unless it is a mere label."""


@dataclass
class SetColumns:
    """What the set rules look at: for each column the rows it applies to, and places to show."""

    columns: dict[str, Array] = field(default_factory=dict)
    examples: dict[SetRule, tuple[RuleExample, ...]] = field(default_factory=dict)


def compare_rows(table: FeatureTable, n_quarantined_rows: int) -> SetColumns:
    """Compute the columns that need no tokens, by the names in `SET_RULES`."""
    import numpy

    found = SetColumns()
    columns = found.columns
    columns["is_bad"] = quarantined_flags(table.n_rows, n_quarantined_rows)
    columns["is_usable"] = numpy.ones(table.n_rows, dtype=bool)
    columns["n_characters"] = table.column("prompt_characters") + table.column("answer_characters")
    n_messages = table.column("n_messages")
    columns["assistant_share"] = (table.column("n_assistant") / n_messages).astype("float32")
    columns["is_duplicate"], earlier = repeats(table.column("whole"))
    _show_twins(found, SetRule.DUPLICATE_FRACTION, table, earlier, "same as")
    _compare_clusters(found, table)
    prompt, answer = table.column("prompt"), table.column("answer")
    n_answers = count_partners(prompt, answer)
    columns["is_contradictory"] = n_answers > 1
    _show(found, SetRule.CONTRADICTORY_FRACTION, table, n_answers, "its prompt has {} answers")
    n_prompts = count_partners(answer, prompt)
    n_prompts[(n_prompts < MIN_BOILERPLATE_PROMPTS) | table.column("is_label")] = 0
    columns["is_boilerplate"] = n_prompts > 0
    _show(found, SetRule.BOILERPLATE_FRACTION, table, n_prompts, "{} prompts have its answer")
    if len(table.column("in_benchmark")):
        mark_benchmark_rows(found, table)
    return found


def quarantined_flags(n_kept_rows: int, n_quarantined_rows: int) -> Flags:
    """Make the column of rule bad_row_fraction: one entry a row, kept rows first."""
    import numpy

    return numpy.arange(n_kept_rows + n_quarantined_rows) >= n_kept_rows


def mark_benchmark_rows(found: SetColumns, table: FeatureTable) -> None:
    """Mark the rows that contain a passage of a benchmark."""
    marks = found.columns["is_in_benchmark"] = table.column("in_benchmark")
    detail = "holds a passage of a benchmark"
    _show(found, SetRule.BENCHMARK_OVERLAP, table, marks, detail)


def _compare_clusters(found: SetColumns, table: FeatureTable) -> None:
    """Mark rows that nearly repeat an earlier one; exact repeats are counted elsewhere."""
    cluster = table.column("cluster")
    if not len(cluster):
        return
    is_near, earlier = repeats(cluster)
    is_near &= ~found.columns["is_duplicate"]
    found.columns["is_near_duplicate"] = is_near
    earlier[~is_near] = -1
    _show_twins(found, SetRule.NEAR_DUPLICATE_FRACTION, table, earlier, "nearly the same as")


def repeats(keys: Hashes) -> tuple[Flags, Numbers]:
    """Mark the keys that repeat an earlier one, and return its place, -1 for the others."""
    import numpy

    rows = tied_rows(keys)
    order = rows[numpy.argsort(keys[rows], kind="stable")]
    ranked = keys[order]
    is_first = numpy.ones(len(order), dtype=bool)
    is_first[1:] = ranked[1:] != ranked[:-1]
    firsts = order[is_first][numpy.cumsum(is_first) - 1] if len(order) else order
    earlier = numpy.full(len(keys), -1, dtype=numpy.int64)
    earlier[order[~is_first]] = firsts[~is_first]
    return earlier >= 0, earlier


def count_partners(keys: Hashes, partners: Hashes) -> Numbers:
    """Count for each row how many different partners, e.g. answers, its key, e.g. its prompt, has."""
    import numpy

    found = numpy.ones(len(keys), dtype=numpy.uint32)
    rows = tied_rows(keys)
    if not len(rows):
        return found
    order = rows[numpy.lexsort((partners[rows], keys[rows]))]
    key, partner = keys[order], partners[order]
    is_new_key = numpy.ones(len(order), dtype=bool)
    is_new_key[1:] = key[1:] != key[:-1]
    is_new_pair = is_new_key.copy()
    is_new_pair[1:] |= partner[1:] != partner[:-1]
    group = numpy.cumsum(is_new_key) - 1
    counts = numpy.bincount(group[is_new_pair]).astype(numpy.uint32)
    found[order] = counts[group]
    return found


def tied_rows(keys: Hashes) -> Numbers:
    """Find the rows whose key another row has too; most sets have few, and only those are ranked."""
    import numpy

    order = numpy.argsort(keys)
    ranked = keys[order]
    is_same = ranked[1:] == ranked[:-1]
    is_tied = numpy.zeros(len(keys), dtype=bool)
    is_tied[1:] |= is_same
    is_tied[:-1] |= is_same
    return numpy.sort(order[is_tied])


def _show(
    found: SetColumns, rule: SetRule, table: FeatureTable, counts: Array, detail: str
) -> None:
    """Keep the first rows with a count above 0 (contradictions: above 1) as examples."""
    least = 1 if rule == SetRule.CONTRADICTORY_FRACTION else 0
    found.examples[rule] = tuple(
        example(table, row, detail.format(counts[row])) for row in first_true(counts > least)
    )


def _show_twins(
    found: SetColumns, rule: SetRule, table: FeatureTable, earlier: Numbers, words: str
) -> None:
    """Keep the first rows that repeat an earlier one as examples."""
    examples = []
    for row in first_true(earlier >= 0):
        file, line = table.place(earlier[row])
        examples.append(example(table, row, f"{words} {file}:{line}"))
    found.examples[rule] = tuple(examples)


def first_true(marks: Flags) -> list[int]:
    """Find the numbers of the first five rows that are marked."""
    import numpy

    return [int(row) for row in numpy.flatnonzero(marks)[:MOST_EXAMPLES]]


def example(table: FeatureTable, row: int, detail: str) -> RuleExample:
    """Make an example of a row of the table."""
    file, line = table.place(row)
    return RuleExample(file=file, line=line, detail=detail)
