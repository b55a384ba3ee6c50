"""What repeats in a set, and what of it is wanted: labels, and several answers sampled to one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.engine.arrays import Array, Flags, Hashes, Numbers

LEAST_LABELLED = 0.9
MOST_LABELS = 0.5
MOST_OF_ONE_LABEL = 0.9
LEAST_LABELLED_ROWS = 12
LEAST_REPEATED = 0.01
"""Answers are labels if there are half as many as rows at most, 90 % of the rows have one that comes again,
and none of them takes more than 90 %; a stock answer among free ones is not."""
SAMPLED_ANSWERS = 4
"""So many different free answers to one prompt were sampled; two or three may contradict each other."""
MOSTLY, USUAL_ANSWERS = 0.5, 3
"""If more of the rows have several answers to their prompt, three on average, the set was made so."""
SHARED_ANSWER, MOST_PHRASINGS, LEAST_PHRASED = 3, 12, 4
"""Prompts that share an answer, so many at least, are phrasings of one question where they are no more than
12 and as many answers as the last have some; stock answers are fewer, or have more prompts."""
LEAST_CUT_CHARACTERS = 200
LEAST_CUT_ROWS, LEAST_AT_A_USUAL_LIMIT = 5, 3
CUT_WINDOW = 20
MOST_CUT = 0.5
"""If more of the rows are equally long, a template made them so, unless the length is a usual limit."""
USUAL_LIMITS = frozenset((255, 256, 500, 512, 1000, 1024, 2000, 2048, 4000, 4096, 32_767))


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


def are_labels(answer: Hashes, context: Hashes) -> Flags:
    """Mark rows whose answer is one of a few that cover nearly the whole set, or all rows of their context.

    Args:
        answer: Hash of each row's answer.
        context: Hash of its system message and tools.

    Returns:
        Whether the answer is a label.

    Shape:
        answer, context and the result: (rows).
    """
    import numpy

    is_label = numpy.zeros(len(answer), dtype=bool)
    rows = tied_rows(answer)
    if len(rows) < LEAST_REPEATED * len(answer) or not len(rows):
        return is_label
    _, kind = numpy.unique(answer[rows], return_inverse=True)
    is_label[rows] = _label_groups(kind, numpy.zeros_like(kind), numpy.array([len(answer)]))
    if context.any() and not is_label.all():
        _, group, n_rows = numpy.unique(context, return_inverse=True, return_counts=True)
        is_label[rows] |= _label_groups(kind, group[rows], n_rows)
    return is_label


def _label_groups(answer: Numbers, group: Numbers, n_rows: Numbers) -> Flags:
    """Decide for groups of rows whether their answers are labels; of rows whose answer comes again somewhere.

    Answers and groups count from 0, `n_rows` counts all rows of each group.
    """
    import numpy

    _, first, kind, n_same = numpy.unique(
        group * (int(answer.max()) + 1) + answer,
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    n_groups = len(n_rows)
    of_group = group[first]
    n_others = n_rows - numpy.bincount(group, minlength=n_groups)
    n_answers = numpy.bincount(of_group, minlength=n_groups) + n_others
    n_repeated = numpy.bincount(of_group, numpy.where(n_same > 1, n_same, 0), n_groups)
    most = numpy.zeros(n_groups, dtype=numpy.int64)
    numpy.maximum.at(most, of_group, n_same)
    is_labelled = (
        (n_rows >= LEAST_LABELLED_ROWS)
        & (n_answers > 1)
        & (n_answers <= MOST_LABELS * n_rows)
        & (n_repeated >= LEAST_LABELLED * n_rows)
        & (most <= MOST_OF_ONE_LABEL * n_rows)
    )
    return is_labelled[group] & (n_same[kind] > 1)


def are_sampled(prompt: Hashes, n_answers: Numbers, conclusion: Hashes) -> Flags:
    """Mark rows whose prompt has several answers on purpose.

    Those are answers with one and the same conclusion, at least four free answers to a prompt, and all free
    ones where most of the set has several, at least three on average.

    Args:
        prompt: Hash of each row's prompt.
        n_answers: How many different answers its prompt has.
        conclusion: Hash of what its answer concludes, 0 where that cannot be read.

    Returns:
        Whether they are sampled.

    Shape:
        prompt, n_answers, conclusion and the result: (rows).
    """
    import numpy

    found = numpy.zeros(len(prompt), dtype=bool)
    several = numpy.flatnonzero(n_answers > 1)  # with all rows of their prompts
    if not len(several):
        return found
    share = len(several) / len(prompt)
    prompt, n_answers, conclusion = prompt[several], n_answers[several], conclusion[several]
    has_read = conclusion != 0
    n_conclusions = count_partners(prompt, conclusion)
    n_unread = count_partners(prompt, has_read)
    is_one = (n_conclusions == 1) & has_read
    # Of the conclusions that count, "none" is one where some can be read and others cannot.
    is_free = numpy.where(n_unread > 1, n_conclusions == 2, (n_conclusions == 1) & ~has_read)
    is_made_so = share > MOSTLY and n_answers.mean() >= USUAL_ANSWERS
    found[several] = is_one | (is_free & ((n_answers >= SAMPLED_ANSWERS) | is_made_so))
    return found


def are_phrasings(answer: Hashes, n_prompts: Numbers) -> Flags:
    """Mark rows whose prompt is one of several phrasings of a question, as in the rows of a FAQ.

    Args:
        answer: Hash of each row's answer.
        n_prompts: How many different prompts have it.

    Returns:
        Whether there are several, in a set with several such answers.

    Shape:
        answer, n_prompts and the result: (rows).
    """
    import numpy

    is_shared = (n_prompts >= SHARED_ANSWER) & (n_prompts <= MOST_PHRASINGS)
    return is_shared & (len(numpy.unique(answer[is_shared])) >= LEAST_PHRASED)


def cut_texts(lengths: Array, texts: Hashes) -> Numbers:
    """Find texts that were cut: several different ones of exactly the greatest length, and few just below it.

    Args:
        lengths: Characters of each row's text.
        texts: Its hash.

    Returns:
        The greatest length for the rows that have it and were cut, 0 for the others.

    Shape:
        lengths, texts and the result: (rows).
    """
    import numpy

    found = numpy.zeros(len(lengths), dtype=numpy.uint32)
    longest = int(lengths.max()) if len(lengths) else 0
    if longest < LEAST_CUT_CHARACTERS:
        return found
    is_longest = lengths == longest
    n_cut = len(numpy.unique(texts[is_longest]))
    near = lengths[(lengths < longest) & (lengths >= longest - CUT_WINDOW)]
    n_near = int(numpy.bincount(longest - near.astype(numpy.int64)).max()) if len(near) else 0
    is_usual = longest in USUAL_LIMITS
    n_needed = LEAST_AT_A_USUAL_LIMIT if is_usual else LEAST_CUT_ROWS
    is_tail = is_longest.mean() <= MOST_CUT or is_usual
    if n_cut >= n_needed and n_cut > 2 * n_near and is_tail:
        found[is_longest] = longest
    return found
