"""Words and runs of words as hashes."""

from __future__ import annotations

import itertools
import random

import polars
import pytest

from tasks.rows import _word_hashes
from tasks.rows._word_hashes import (
    BASE,
    CHUNK_BYTES,
    MIXER,
    MOST_TOKEN_BYTES,
    hash_runs,
    hash_tokens,
)

MODULUS = 1 << 64
MIXED = [
    "a cat sat",
    "",
    "中国 的cat首都",
    None,
    "x" * 300,
    "ประเทศ ไทย",
    "été über 日本",
    "한국어 말",
]


def series(*texts: str | None) -> polars.Series:
    return polars.Series(texts, dtype=polars.String)


def token_rows(*texts: str | None) -> list[list[int]]:
    tokens = hash_tokens(series(*texts))
    offsets = tokens.offsets.tolist()
    return [tokens.hashes[low:high].tolist() for low, high in itertools.pairwise(offsets)]


def run_rows(length: int, *texts: str, keep_short: bool = False) -> list[list[int]]:
    runs = hash_runs(hash_tokens(series(*texts)), length, keep_short=keep_short)
    offsets = runs.offsets.tolist()
    return [runs.hashes[low:high].tolist() for low, high in itertools.pairwise(offsets)]


def mix(value: int) -> int:
    value ^= value >> 32
    value = value * MIXER % MODULUS
    return value ^ (value >> 29)


def word_hash(word: str) -> int:
    """Say the same as the module does, one byte at a time."""
    shift = CHUNK_BYTES + MOST_TOKEN_BYTES
    value = sum(
        byte * pow(BASE, shift + place, MODULUS) for place, byte in enumerate(word.encode())
    )
    return mix(value % MODULUS)


def test_hash_tokens_gives_the_polynomial_of_the_bytes_of_each_word() -> None:
    assert token_rows("a cat", "über") == [[word_hash("a"), word_hash("cat")], [word_hash("über")]]


def test_hash_tokens_stays_the_same_for_ever() -> None:
    """A pinned figure: clusters and splits must not change with a library or a process."""
    assert token_rows("cat") == [[0xCCE93437CBD8F9E8]]


def test_hash_tokens_keeps_rows_apart_and_knows_empty_ones() -> None:
    assert [len(row) for row in token_rows("a b", "", " \n\t ", None, "c")] == [2, 0, 0, 0, 1]
    assert token_rows("a", "b") != token_rows("ab")


def test_hash_tokens_of_no_rows_is_empty() -> None:
    tokens = hash_tokens(series())
    assert (len(tokens.hashes), tokens.offsets.tolist()) == (0, [0])


def test_hash_tokens_of_a_slice_equals_that_of_the_rows_alone() -> None:
    rows = series("one two", "three four five", "six", "seven eight")
    part = hash_tokens(rows[1:3])
    alone = hash_tokens(series("three four five", "six"))
    assert part.hashes.tolist() == alone.hashes.tolist()
    assert part.offsets.tolist() == alone.offsets.tolist() == [0, 3, 4]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("中国的首都", ["中", "国", "的", "首", "都"]),
        ("的cat首", ["的", "cat", "首"]),
        ("カナ かな", ["カ", "ナ", "か", "な"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("ລາວ", ["ລ", "າ", "ວ"]),
        ("ខ្មែរ", list("ខ្មែរ")),
        ("မြန်", list("မြန်")),
        ("한국어 말", ["한국어", "말"]),
        ("été über", ["été", "über"]),
        ("Москва 😀", ["Москва", "😀"]),
    ],
)
def test_hash_tokens_reads_scripts_without_spaces_by_character(
    text: str, tokens: list[str]
) -> None:
    assert token_rows(text) == [[word_hash(token) for token in tokens]]


def test_hash_tokens_does_not_depend_on_where_its_chunks_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["cat", "sitzt", "中国", "ไทย", "x" * 90, "é", "😀", " "]
    rows = MIXED + [" ".join(random.Random(7).choices(words, k=n)) for n in range(60)]
    whole = token_rows(*rows)
    for n_bytes in (16, 61, 64, 1000):
        monkeypatch.setattr(_word_hashes, "CHUNK_BYTES", n_bytes)
        assert token_rows(*rows) == whole


def test_hash_tokens_looks_at_the_first_part_of_a_monstrous_word() -> None:
    long = "x" * MOST_TOKEN_BYTES
    first, same, other, rest = token_rows(long, long + "y" * CHUNK_BYTES, "y" + long, "a b")
    assert first == same == [word_hash(long)]
    assert other != first
    assert rest == [word_hash("a"), word_hash("b")]


def test_hash_tokens_may_part_words_at_punctuation() -> None:
    plain = hash_tokens(series("it s 5 eur naïve x"))
    marked = hash_tokens(series("(it's) 5-eur, naïve_x!"), is_punctuation_space=True)
    assert marked.hashes.tolist() == plain.hashes.tolist()


def test_hash_runs_counts_n_minus_length_plus_one() -> None:
    rows = run_rows(3, "a b c d e", "a b c", "a b", "", "c d e")
    assert [len(row) for row in rows] == [3, 1, 0, 0, 1]
    assert rows[0][0] == rows[1][0]
    assert rows[0][2] == rows[4][0]
    assert len(set(rows[0])) == 3


def test_hash_runs_may_keep_what_short_rows_have() -> None:
    rows = run_rows(3, "a b", "a", "", "a b", "b a", "a b c", keep_short=True)
    assert [len(row) for row in rows] == [1, 1, 0, 1, 1, 1]
    assert rows[0] == rows[3]
    assert len({row[0] for row in rows if row}) == 4


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13, 16])
def test_hash_runs_gives_the_polynomial_of_the_words_at_any_length(length: int) -> None:
    words = [f"w{number}" for number in range(20)]
    hashes = [word_hash(word) for word in words]
    expected = []
    for start in range(20 - length + 1):
        value = 0
        for token in hashes[start : start + length]:
            value = (value * BASE + token) % MODULUS
        expected.append(mix(value))
    assert run_rows(length, "x y", " ".join(words), "z")[1] == expected
