from __future__ import annotations

import random

import numpy
import polars

from tasks.rows._word_hashes import hash_tokens
from tasks.rows.shared_text import END_WORDS, OwnWords, own_words


def words(name: str, n_words: int) -> str:
    return " ".join(f"{name}{number}" for number in range(n_words))


def shared(rows: list[list[tuple[str, str]]]) -> OwnWords:
    """Find the own words of rows whose last message is the answer."""
    said = polars.Series([text for row in rows for _, text in row], dtype=polars.String)
    is_opening = numpy.array([role == "system" for row in rows for role, _ in row], dtype=bool)
    ends = numpy.cumsum([len(row) for row in rows])
    starts = ends - [len(row) for row in rows]
    return own_words(said, (starts, ends - 1, ends), is_opening)


def own(rows: list[list[tuple[str, str]]]) -> list[list[int]]:
    """Give the hashes of the words that each row keeps."""
    found = shared(rows).words
    return [
        found.hashes[low:high].tolist()
        for low, high in zip(found.offsets[:-1], found.offsets[1:], strict=True)
    ]


def hashed(text: str) -> list[int]:
    return hash_tokens(polars.Series([text])).hashes.tolist()


def asked(*texts: str, system: str = "") -> list[tuple[str, str]]:
    turns = [
        ("user", text) if number % 2 == 0 else ("assistant", text)
        for number, text in enumerate(texts)
    ]
    return [("system", system), *turns] if system else turns


def test_rows_that_share_nothing_keep_all_their_words() -> None:
    rows = [asked(words(f"q{number}x", 30), words(f"a{number}x", 30)) for number in range(40)]
    assert own(rows) == [hashed(f"{row[0][1]} {row[1][1]}") for row in rows]


def test_system_message_of_several_rows_is_left_out_whatever_its_length() -> None:
    for length in (2, 300):
        system = words("s", length)
        rows = [asked(f"question {number}", "yes", system=system) for number in range(6)]
        assert own(rows)[3] == hashed("question 3 yes")
    alone = [asked("question", "yes", system=words(f"s{number}x", 20)) for number in range(6)]
    assert own(alone)[3] == hashed(f"{alone[3][0][1]} question yes")


def test_words_that_many_prompts_begin_or_end_with_are_left_out() -> None:
    for length in (16, 150, 1000):
        before, after = words("b", length), words("e", length)
        rows = [
            asked(f"{before} own{number} extra{number} {after}", f"answer{number}")
            for number in range(40)
        ]
        assert own(rows)[7] == hashed("own7 extra7 answer7")


def test_templates_of_several_tasks_are_each_left_out() -> None:
    rows = [
        asked(f"{words(f't{number % 3}x', 60)} input{number}", f"answer{number}")
        for number in range(45)
    ]
    assert own(rows)[7] == hashed("input7 answer7")


def test_short_beginnings_and_those_of_few_rows_stay() -> None:
    short = [asked(f"{words('b', 15)} own{number}", "yes") for number in range(40)]
    assert own(short)[7] == hashed(f"{short[7][0][1]} yes")
    others = [asked(words(f"q{number}x", 30), "yes") for number in range(40)]
    few = [asked(f"{words('b', 60)} own{number}", "yes") for number in range(9)]
    assert own([*few, *others])[3] == hashed(f"{few[3][0][1]} yes")


def test_near_copies_that_differ_here_and_there_keep_most_of_their_words() -> None:
    draw = random.Random(3)
    rows = []
    for number in range(12):
        text = words("w", 100).split()
        text[draw.randrange(100)] = f"changed{number}"
        rows.append(asked(" ".join(text), "yes"))
    others = [asked(words(f"q{number}x", 30), "yes") for number in range(60)]
    kept = own([*rows, *others])[:12]
    assert all(len(row) == 101 for row in kept)


def test_row_without_words_of_its_own_keeps_all() -> None:
    rows = [asked(words("q", 40), words("a", 40)) for _ in range(60)]
    assert own(rows)[5] == hashed(f"{words('q', 40)} {words('a', 40)}")


def test_own_words_do_not_depend_on_the_order_of_rows() -> None:
    rows = [
        asked(f"{words(f't{number % 2}x', 80)} own{number}", f"a{number}") for number in range(60)
    ]
    rows += [asked(words(f"q{number}x", 30), "yes") for number in range(20)]
    order = list(range(len(rows)))
    random.Random(5).shuffle(order)
    whole, shuffled = own(rows), own([rows[place] for place in order])
    assert [whole[place] for place in order] == shuffled


def test_own_words_of_no_rows() -> None:
    nothing = numpy.zeros(0, dtype=numpy.int64)
    found = own_words(polars.Series([], dtype=polars.String), (nothing,) * 3, nothing.astype(bool))
    assert (found.words.hashes.tolist(), found.words.offsets.tolist()) == ([], [0])
    assert found.ends.shape == (0, 64)


def ends(text: str) -> list[int]:
    """Shorten the first 16 words and the last, as ends have them."""
    found = [max(word & 0xFF, 1) for word in hashed(text)]
    filler = [0] * max(END_WORDS - len(found), 0)
    return [*found[:END_WORDS], *filler, *filler, *found[-END_WORDS:]]


def test_ends_are_those_of_the_last_question_and_the_answer() -> None:
    rows = [
        asked(words("q", 40), words("a", 20)),
        asked("one two three", "yes", words("r", 5), words("b", 16)),
    ]
    assert shared(rows).ends.tolist() == [
        ends(words("q", 40)) + ends(words("a", 20)),
        ends(words("r", 5)) + ends(words("b", 16)),
    ]


def test_ends_leave_out_what_many_rows_share() -> None:
    rows = [
        asked(
            f"{words('b', 60)} {words(f'q{number}x', 5)} {words('e', 30)}", words(f"a{number}x", 9)
        )
        for number in range(40)
    ]
    assert shared(rows).ends[7].tolist() == ends(words("q7x", 5)) + ends(words("a7x", 9))


def test_punctuation_does_not_count_in_a_text_of_few_words() -> None:
    found = shared([asked("who built it", "a mason"), asked("who built it?", "a mason.")]).ends
    assert found[0].tolist() == found[1].tolist() == ends("who built it") + ends("a mason")


def test_row_of_a_question_or_of_an_answer_alone_has_no_other_ends() -> None:
    said = polars.Series(["a b c d e", "f g h i j"])
    starts, after = numpy.array([0, 1]), numpy.array([1, 2])
    found = own_words(said, (starts, numpy.array([1, 1]), after), numpy.zeros(2, dtype=bool)).ends
    nothing = [0] * 32
    assert found.tolist() == [ends("a b c d e") + nothing, nothing + ends("f g h i j")]
