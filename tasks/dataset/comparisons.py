"""What the set rules look at without tokens: repeats, contradictions, boilerplate and lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.rule_ids import RuleExample, SetRule
from tasks.dataset.repeats import (
    SHARED_ANSWER,
    are_labels,
    are_phrasings,
    are_sampled,
    count_partners,
    cut_texts,
    repeats,
)
from tasks.rows.feature_table import FeatureTable

if TYPE_CHECKING:
    from tasks.engine.arrays import Array, Flags, Numbers

MOST_EXAMPLES = 5
LEAST_REPHRASED = 4
"""Of so many phrasings of a question some may differ by a word and be no near duplicates."""


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
    answer, context = table.column("answer"), table.column("context")
    # Prompts that are shown with other tools are other prompts.
    prompt = table.column("prompt") ^ (context << numpy.uint64(1))
    n_answers = count_partners(prompt, answer)
    is_label = table.column("is_label") | are_labels(answer, context)
    conclusion = numpy.where(is_label, answer, table.column("conclusion"))
    is_sampled = are_sampled(prompt, n_answers, conclusion)
    n_prompts = count_partners(answer, prompt)
    is_phrasing = are_phrasings(answer, n_prompts)
    _compare_clusters(found, table, is_sampled | (is_phrasing & (n_prompts >= LEAST_REPHRASED)))
    n_answers[is_sampled] = 1
    columns["is_contradictory"] = n_answers > 1
    _show(found, SetRule.CONTRADICTORY_FRACTION, table, n_answers, "its prompt has {} answers")
    has_conclusion = is_label | (table.column("conclusion") != 0)
    n_prompts[(n_prompts < SHARED_ANSWER) | has_conclusion | is_phrasing] = 0
    columns["is_boilerplate"] = n_prompts > 0
    _show(found, SetRule.BOILERPLATE_FRACTION, table, n_prompts, "{} prompts have its answer")
    _mark_cut_texts(found, table)
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


def _mark_cut_texts(found: SetColumns, table: FeatureTable) -> None:
    """Mark rows whose prompt or answer ends where the longest of all do."""
    n_cut = cut_texts(table.column("question_characters"), table.column("prompt"))
    other = cut_texts(table.column("answer_characters"), table.column("answer"))
    n_cut[other > 0] = other[other > 0]
    found.columns["is_cut"] = n_cut > 0
    _show(
        found,
        SetRule.CUT_TEXT_FRACTION,
        table,
        n_cut,
        "a text has {} characters, the most there are",
    )


def _compare_clusters(found: SetColumns, table: FeatureTable, is_wanted: Flags) -> None:
    """Mark rows that nearly repeat an earlier one; exact repeats are counted elsewhere.

    Rows with another system message or other tools are no repeats, nor are those that repeat on purpose:
    answers sampled to one prompt, and many phrasings of one question.
    """
    import numpy

    cluster = table.column("copied")
    if not len(cluster):
        return
    # Cluster numbers are below 2^32.
    mixed = table.column("context") & numpy.uint64(0xFFFFFFFF00000000)
    is_near, earlier = repeats(cluster.astype(numpy.uint64) | mixed)
    is_near &= ~found.columns["is_duplicate"] & ~is_wanted
    found.columns["is_near_duplicate"] = is_near
    earlier[~is_near] = -1
    _show_twins(found, SetRule.NEAR_DUPLICATE_FRACTION, table, earlier, "nearly the same as")


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
