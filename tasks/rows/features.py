"""Reduce the kept rows of a block to what rows are compared by: hashes, lengths, signatures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.rules.check_rows import CheckedBlock
from tasks.rows.conclusions import are_labels, conclusions
from tasks.rows.context import context_hashes, is_opening, tool_hashes

if TYPE_CHECKING:
    from numpy import ndarray
    from polars import DataFrame, Series

    from tasks.engine.arrays import Array, Flags, Hashes, Numbers
    from tasks.rows.benchmark_overlap import NgramIndex

MAX_SAMPLE_ROWS = 2000
"""Rows whose language is detected; a detection takes longer than all row rules together."""
ODD_ONE, ODD_TWO = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
"""Multipliers of splitmix64 and its kin; odd, so that no bit is lost."""
SAMPLE_CHARACTERS = 600
"""Of an answer, enough to tell its language."""


@dataclass
class RowFeatures:
    """Features of the kept rows of one block; arrays of equal length, one entry a row."""

    columns: dict[str, Array]
    """`file` (code), `line`, `whole`, `prompt`, `answer`, `context` (system message and tools),
    `conclusion` (64-bit hashes; for the split also `continued`, that of the row's messages up to the
    answer before its last one, 0 where there is none), `prompt_characters`, `answer_characters`, `question_characters` (last message of a user),
    `n_messages`, `n_assistant`, `is_label`, and `in_benchmark` where asked."""
    files: list[str]
    """Names of the files, by code."""
    roles: Counter[str] = field(default_factory=Counter)
    """Messages per role."""
    signatures: ndarray | None = None
    """MinHash signatures, (row, permutation), where asked."""
    sample: list[tuple[int, str]] = field(default_factory=list)
    """Rows with the smallest hashes of the block: hash and beginning of the answer."""


@dataclass(frozen=True)
class FeatureRequest:
    """What to measure besides hashes and lengths."""

    similarity: float | None = None
    """From which rows count as near duplicates; None: they are not looked for."""
    has_sample: bool = False
    for_split: bool = False
    """Hash prompts the same in every version of the libraries, which takes longer, and what rows continue."""
    benchmark: NgramIndex | None = None


def row_features(block: CheckedBlock, request: FeatureRequest) -> RowFeatures:
    """Measure the rows of a block that break no blocking rule."""
    import numpy
    import polars

    kept = [number for number in block.layout.rows if number not in block.blocked]
    frame = block.frame
    if block.blocked:
        frame = frame.filter(~polars.col("row").is_in(list(block.blocked)))
    starts = numpy.flatnonzero(frame["turn"].to_numpy() == 0)
    ends = numpy.append(starts, len(frame))[1:].astype(numpy.int64)
    places = numpy.arange(len(frame))
    is_assistant = (frame["role"] == "assistant").fill_null(value=False).to_numpy()
    columns, files = _places(block, kept)
    columns["n_messages"] = (ends - starts).astype(numpy.uint32)
    columns["n_assistant"] = _sums(is_assistant, starts)
    n_characters = frame["compared"].str.len_chars().fill_null(0).to_numpy()
    columns["answer_characters"] = _sums(numpy.where(is_assistant, n_characters, 0), starts)
    columns["prompt_characters"] = _sums(numpy.where(is_assistant, 0, n_characters), starts)
    columns["question_characters"] = _questions(frame, n_characters, starts)
    last = numpy.where(is_assistant, places, -1)
    answers = numpy.maximum.reduceat(last, starts) if len(starts) else starts
    answers = numpy.where(answers < 0, ends, answers)
    said = normalised(frame["compared"].fill_null(""))
    bounds = (starts, answers, ends)
    _add_hashes(columns, frame, said, bounds)
    columns["context"] = context_hashes(frame, said, starts)
    if request.for_split:
        columns["continued"] = _continued(frame, is_assistant, bounds)
    for place, tools in tool_hashes(block, kept):
        columns["context"][place] ^= tools
        columns["whole"][place] ^= tools
        if request.for_split and columns["continued"][place]:
            columns["continued"][place] ^= tools
    if request.for_split:
        columns["prompt"] = _stable_prompts(said, (starts, answers))
    found = RowFeatures(columns, files, Counter(_role_counts(frame)))
    if request.similarity is not None or request.benchmark is not None:
        _add_similarity(found, frame, said, bounds, request)
    if request.has_sample:
        found.sample = _sample(columns["whole"], frame["compared"], answers)
    return found


def _places(block: CheckedBlock, kept: list[int]) -> tuple[dict[str, Array], list[str]]:
    """List the file and line of each kept row."""
    import numpy

    others = block.recognised.others
    codes = {block.rows.file: 0} if any(number not in others for number in kept) else {}
    files = numpy.zeros(len(kept), dtype=numpy.uint32)
    lines = numpy.array(block.rows.lines, dtype=numpy.uint32)[kept]
    for place, number in enumerate(kept) if others else ():
        found = others[number][0] if number in others else None
        if found:
            files[place], lines[place] = codes.setdefault(found.file, len(codes)), found.line
    return {"file": files, "line": lines}, list(codes)


def _questions(frame: DataFrame, n_characters: Array, starts: Numbers) -> Array:
    import numpy

    if not len(starts):
        return starts
    is_user = (frame["role"] == "user").fill_null(value=False).to_numpy()
    last = numpy.maximum.reduceat(numpy.where(is_user, numpy.arange(len(frame)), -1), starts)
    return numpy.where(last < 0, 0, n_characters[last])


def _sums(values: Array, starts: Numbers) -> Array:
    """Add the values of each row's messages up."""
    import numpy

    if not len(starts):
        return numpy.zeros(0, dtype=numpy.uint32)
    return numpy.add.reduceat(values.astype(numpy.int64), starts).astype(numpy.uint32)


def _add_hashes(
    columns: dict[str, Array],
    frame: DataFrame,
    said: Series,
    bounds: tuple[Numbers, Numbers, Numbers],
) -> None:
    """Hash the conversation as it is, its prompt and its answer in normalised form.

    The hashes of polars are enough to compare rows within one run.
    """
    import numpy

    starts, answers, ends = bounds
    turns = frame["turn"].to_numpy()
    normal = said.hash().to_numpy()
    columns["whole"] = combined_hashes(_message_hashes(frame), turns, starts)
    is_asked = turns < numpy.repeat(answers - starts, ends - starts)
    columns["prompt"] = combined_hashes(normal, turns, starts, is_asked)
    is_answered = answers < ends
    places = numpy.where(is_answered, answers, starts)
    columns["answer"] = numpy.where(is_answered, normal[places], 0).astype(numpy.uint64)
    answer = said.gather(places)
    asked = (said.gather(starts), said.gather(numpy.maximum(places - 1, starts)))
    columns["is_label"] = are_labels(answer, asked)
    columns["conclusion"] = conclusions(answer, columns["is_label"])


def _message_hashes(frame: DataFrame) -> Hashes:
    """Hash role and text of each message."""
    texts: Hashes = frame["compared"].fill_null("").hash().to_numpy()
    roles: Hashes = frame["role"].fill_null("").hash().to_numpy()
    return texts ^ (roles * ODD_ONE)


def _continued(
    frame: DataFrame, is_assistant: Flags, bounds: tuple[Numbers, Numbers, Numbers]
) -> Hashes:
    """Hash the messages up to each row's answer before its last one, as `whole` of a row that ends there."""
    import numpy

    starts, answers, ends = bounds
    places = numpy.arange(len(frame))
    lengths = ends - starts
    is_earlier = is_assistant & (places < numpy.repeat(answers, lengths))
    if not is_earlier.any():
        return numpy.zeros(len(starts), dtype=numpy.uint64)
    last = numpy.maximum.reduceat(numpy.where(is_earlier, places, -1), starts)
    is_counted = places <= numpy.repeat(last, lengths)
    hashes = combined_hashes(_message_hashes(frame), frame["turn"].to_numpy(), starts, is_counted)
    return numpy.where(last < 0, numpy.uint64(0), hashes)


def combined_hashes(
    hashes: Hashes, turns: Numbers, starts: Numbers, is_counted: Flags | bool = True
) -> Hashes:
    """Combine the hashes of each row's messages.

    Args:
        hashes: Of each message.
        turns: Its place in the row.
        starts: Of each row, its first message.
        is_counted: Whether a message counts.

    Returns:
        Hash of each row, which depends on its messages and their order.

    Shape:
        hashes, turns, is_counted: (messages).
        starts and the result: (rows).
    """
    import numpy

    if not len(starts):
        return numpy.zeros(0, dtype=numpy.uint64)
    mixed = hashes ^ ((turns.astype(numpy.uint64) + ODD_TWO) * ODD_ONE)
    mixed ^= mixed >> numpy.uint64(31)  # without it, two messages could swap unseen
    mixed *= ODD_TWO
    mixed ^= mixed >> numpy.uint64(29)
    return numpy.add.reduceat(numpy.where(is_counted, mixed, numpy.uint64(0)), starts)


def _stable_prompts(said: Series, bounds: tuple[Numbers, Numbers]) -> Hashes:
    """Hash prompts so that a new version of polars does not move a row to another split."""
    normal = said.to_list()
    prompts = zip(bounds[0].tolist(), bounds[1].tolist(), strict=True)
    return text_hashes(["\n".join(normal[start:last]) for start, last in prompts])


def _role_counts(frame: DataFrame) -> dict[str, int]:
    counts = frame["role"].drop_nulls().value_counts()
    return dict(zip(counts["role"].to_list(), counts["count"].to_list(), strict=True))


def _add_similarity(
    found: RowFeatures,
    frame: DataFrame,
    said: Series,
    bounds: tuple[Numbers, Numbers, Numbers],
    request: FeatureRequest,
) -> None:
    """Sign the words that rows do not all share, and look for word sequences of the benchmarks."""
    import polars

    from tasks.rows.near_duplicates import sign_rows
    from tasks.rows.shared_text import own_words

    if request.similarity is not None:
        found.signatures = sign_rows(own_words(said, bounds, is_opening(frame)), request.similarity)
    if request.benchmark is not None:
        normal = said.to_list()
        rows = zip(bounds[0].tolist(), bounds[2].tolist(), strict=True)
        texts = polars.Series(
            [" ".join(normal[start:end]) for start, end in rows], dtype=polars.String
        )
        found.columns["in_benchmark"] = request.benchmark.overlaps(texts)


def _sample(whole: Hashes, texts: Series, answers: Numbers) -> list[tuple[int, str]]:
    """Choose rows by the size of their hash, so that the choice depends on no other row."""
    import numpy

    smallest = numpy.argsort(whole, kind="stable")[:MAX_SAMPLE_ROWS]
    places = numpy.minimum(answers[smallest], len(texts) - 1)
    chosen = texts.gather(places).fill_null("").str.slice(0, SAMPLE_CHARACTERS)
    return list(zip(whole[smallest].tolist(), chosen.to_list(), strict=True))


def normalised(texts: Series) -> Series:
    """Make texts equal that differ only in case, white space or the encoding of characters.

    Args:
        texts: One text a row.

    Returns:
        Series of the same length: NFKC form (looked at only where a text is not plain ASCII),
        lower case, each run of white space as one blank, none at the ends.
    """
    is_plain = texts.str.len_bytes() == texts.str.len_chars()
    if not is_plain.all():
        places = (~is_plain).arg_true()
        texts = texts.scatter(places, texts.gather(places).str.normalize("NFKC"))
    # Single blanks, the common case, are left alone: four times as fast as replacing each run.
    spaced = texts.str.to_lowercase().str.replace_all(r"\s{2,}|[^\S ]", " ")
    return spaced.str.strip_chars(" ")


def text_hashes(texts: Iterable[str]) -> Hashes:
    """Shorten texts to 64 bits each, the same in every process, version and year.

    Args:
        texts: The texts.

    Returns:
        XXH3 of their UTF-8 forms; two of four million different texts share one
        with a probability of about 4e-7.
    """
    import numpy
    import xxhash

    digest = xxhash.xxh3_64_intdigest
    return numpy.array([digest(text.encode()) for text in texts], dtype=numpy.uint64)
