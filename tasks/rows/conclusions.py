"""What an answer concludes: answers to one prompt with one conclusion do not contradict each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polars import Series

    from tasks.engine.arrays import Flags, Hashes

TAIL_CHARACTERS = 240
"""Of an answer, in which its conclusion is looked for."""
LABEL_WORDS = 2
"""An answer of so few words, such as yes or customer service, is a label and may be frequent."""
LONG_LABEL = 30
"""Characters; languages without blanks write sentences in one word."""
LONG_VALUE = 100
VALUE_WORDS = 3
"""A short answer is a value if it is in brackets, or one word of three has a digit or a sign of a formula."""
_IN_BRACKETS = r"^[\[{(]"
_VALUE_WORD = r"[^ ]*[0-9=\[\]{}|][^ ]*"
_MARKS = ("\\boxed", "####", "answer")
_MARKED = re.compile(
    r"\\boxed ?\{(?P<boxed>[^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|####(?P<line>[^#]*)"
    r"|\banswer(?: is|:|\*\*:?| =)(?P<said>.{0,80})",
)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?: ?/ ?\d+)?")
_CHOICE = re.compile(r"[(\[*]*(?P<choice>[a-h]|yes|no|true|false)\b[)\].*]*")


def conclusion(answer: str) -> str:
    r"""Read what an answer in normal form concludes: a number, a letter of a choice, or yes and no.

    It is what follows the last `\boxed{`, `####` or "answer is"; empty if there is none of them.
    """
    found = None
    for match in _MARKED.finditer(answer[-TAIL_CHARACTERS:]):
        found = match
    if found is None:
        return ""
    said = (found["boxed"] or found["line"] or found["said"] or "").strip(" :$*")
    choice = _CHOICE.match(said)
    if choice:
        return choice["choice"]
    numbers = _NUMBER.findall(said)
    if len(numbers) == 1 or (numbers and not found["boxed"]):
        return str(numbers[0]).replace(",", "").replace(" ", "").removesuffix(".0")
    return said.replace(" ", "") if found["boxed"] else ""


def are_labels(answers: Series, asked: Sequence[Series]) -> Flags:
    """Mark answers that are labels or values, which many rows may share: yes, x = 2, [1, 3], {"kind": "bug"}.

    A short answer that its prompt offers is one too: "or say 'I do not know'".

    Args:
        answers: In normal form.
        asked: Messages before each answer that may offer it, in the same form.

    Returns:
        Whether an answer is one.

    Shape:
        (rows,).
    """
    import numpy
    import polars

    n_characters = answers.str.len_chars().to_numpy()
    is_label = answers.str.starts_with("{").to_numpy().copy()  # a call, or an object of any length
    is_label |= (answers.str.count_matches(" ").to_numpy() < LABEL_WORDS) & (
        n_characters < LONG_LABEL
    )
    places = numpy.flatnonzero(~is_label & (n_characters < LONG_VALUE))
    texts = answers.gather(places)
    n_values = texts.str.count_matches(_VALUE_WORD) * VALUE_WORDS
    is_value = texts.str.contains(_IN_BRACKETS) | (n_values > texts.str.count_matches(" "))
    is_label[places] = is_value.to_numpy()
    places = places[~is_label[places]]
    for messages in asked:
        offered = polars.DataFrame(
            {"said": messages.gather(places), "answer": answers.gather(places)}
        )
        is_offered = polars.col("said").str.contains(polars.col("answer"), literal=True)
        is_other = polars.col("said") != polars.col("answer")
        is_label[places] |= offered.select(is_offered & is_other).to_series().to_numpy()
    return is_label


def conclusions(answers: Series, is_label: Flags) -> Hashes:
    """Hash the conclusion of each answer: a label is one itself; 0 where none can be read.

    Args:
        answers: In normal form.
        is_label: Whether an answer is a label.

    Returns:
        Hashes; equal ones within one run have the same conclusion.

    Shape:
        (rows,).
    """
    import numpy
    import polars

    found = numpy.zeros(len(answers), dtype=numpy.uint64)
    found[is_label] = answers.filter(polars.Series(is_label)).hash().to_numpy()
    tails = answers.str.tail(TAIL_CHARACTERS)
    places = (tails.str.contains_any(list(_MARKS)) & ~polars.Series(is_label)).arg_true()
    read = polars.Series([conclusion(text) for text in tails.gather(places)], dtype=polars.String)
    found[places.to_numpy()] = numpy.where((read == "").to_numpy(), 0, read.hash().to_numpy())
    return found
