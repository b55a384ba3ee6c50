"""Write a file of made-up conversations, the same for the same seed, quickly.

Rows are in the `messages` format and look like chat data as far as a checker can tell: two to four
messages, some with a system prompt, sentences with punctuation, paragraphs, lists, quotes and tabs,
one row in twenty with letters beyond ASCII, about 400 bytes a row. A little dirt is planted, under
every default limit: duplicates, near duplicates, contradictions, e-mail addresses, placeholders and
empty contents.

Rows are made in chunks that depend on nothing but the seed and their number, so chunks can be made
side by side, and a longer file begins with the shorter one.
"""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy

CHUNK_ROWS = 10_000
SEED = 42
MEAN_WORDS = 10
"""Of a question; an answer has three times as many."""
ANSWER_FACTOR = 3
PLANTED = {
    "duplicate": 0.005,
    "near_duplicate": 0.005,
    "contradiction": 0.005,
    "email": 0.003,
    "placeholder": 0.002,
    "empty": 0.002,
}
"""Share of rows with each kind of dirt."""
NON_ASCII_FRACTION = 0.05
FUNCTION_WORDS = (
    "the of and to a in is that for it as with on be by this are at from or an was which can "
    "you has not have will its more when if one all their also how than other about what into "
    "some these use there may most then only between each they so over such we after both your "
    "while through where during before under why could should because"
)
STEMS = (
    "measure compute explain consider observe create produce compare describe examine increase "
    "reduce include require operate generate organize analyze calculate design support deliver "
    "report consume construct protect inspect connect select direct collect market season figure "
    "engine garden village bridge river mountain culture language sentence program network server "
    "database library student teacher doctor patient medicine health weather temperature pressure "
    "electric machine vehicle travel hotel kitchen recipe vegetable bread butter sugar flavor "
    "paint music piano guitar orchestra theater novel chapter character poem budget invoice "
    "account credit custom service product company manage project schedule meeting contract "
    "lawyer court police govern elect council planet orbit molecule atom protein cell tissue "
    "forest ocean island desert glacier climate carbon nitrogen metal copper silver window door "
    "floor ceiling concrete timber fabric cotton leather"
)
ENDINGS = (
    "e ed es ing er ers ion ions ments able ive al ally istic ity ance or ory ful less ness ish"
)
SYLLABLES = "ka lo mi ren tu sha vel dor an fi que zor pal wen bri os thal ge nu rix"
"""Of made-up names."""
FOREIGN_WORDS = (
    "café naïve Zürich größer señor façade über crème Ångström jalapeño Łódź smörgåsbord “quoted” "
    "it’s — … €20 東京 привет 中文 한국어 مرحبا 😀 🚀"
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful, honest and concise assistant. Answer in plain English.",
    "You are a patient tutor who explains every step.\nUse examples where they help.",
    "Answer as a senior engineer would: short, correct, with the reason.",
    "You write for children of ten years. Avoid long words.",
)
SEPARATORS = (". ", ". ", ". ", ". ", "? ", "! ", ".\n\n", ".\n- ", "; ", ': "')
Row = list[dict[str, str]]


def write_conversations(path: Path, first_chunk: int, n_chunks: int, n_processes: int = 2) -> None:
    """Append chunks of conversations to a file of JSON lines.

    Args:
        path: The file; made if need be.
        first_chunk: Number of the first chunk to write.
        n_chunks: How many to write, of `CHUNK_ROWS` rows each.
        n_processes: How many work at once; the file does not depend on it.
    """
    context = multiprocessing.get_context("spawn")
    numbers = range(first_chunk, first_chunk + n_chunks)
    with (
        path.open("ab") as stream,
        ProcessPoolExecutor(n_processes, mp_context=context) as pool,
    ):
        for lines in pool.map(make_chunk, numbers, chunksize=4):
            stream.write(lines)


def make_chunk(number: int, n_rows: int = CHUNK_ROWS) -> bytes:
    """Make one chunk of conversations.

    Args:
        number: Of the chunk; with the seed it decides everything.
        n_rows: How many rows; fewer are the beginning of the whole chunk.

    Returns:
        JSON lines in UTF-8.
    """
    seed = SEED * 1_000_003 + number
    random = Random(seed)  # noqa: S311 - made-up data needs no cryptography
    writer = _Writer(random, seed)
    rows: list[Row] = []
    for _ in range(n_rows):
        rows.append(_make_row(random, writer, rows))
    encode = json.JSONEncoder(ensure_ascii=False).encode
    lines = (encode({"messages": row}) for row in rows)
    return ("\n".join(lines) + "\n").encode()


class _Writer:
    """Writes texts from a stream of random words that is drawn in bulk."""

    BULK = 50_000

    def __init__(self, random: Random, seed: int) -> None:
        self.random = random
        self.bulk_random = numpy.random.default_rng(seed)
        self.words: list[str] = []
        self.place = 0

    def _take(self, n_words: int) -> list[str]:
        if self.place + n_words > len(self.words):
            words, weights = _vocabulary()
            drawn = numpy.searchsorted(weights, self.bulk_random.random(self.BULK), side="right")
            self.words = words[drawn].tolist()
            self.place = 0
        self.place += n_words
        return self.words[self.place - n_words : self.place]

    def text(self, mean_words: int, ending: str) -> str:
        """Write a text of about so many words: sentences, some in paragraphs or lists."""
        random = self.random.random
        n_words = 3 + int(mean_words * (0.4 + 1.2 * random()))
        sentences, separators = [], []
        while n_words > 0:
            length = min(n_words, 6 + int(12 * random()))
            words = self._take(length)
            if length > 9:
                words[length // 2] += ","
            sentences.append(" ".join(words))
            separators.append(SEPARATORS[int(len(SEPARATORS) * random())])
            n_words -= length
        separators[-1] = ending
        pairs = zip(sentences, separators, strict=True)
        return "".join(
            sentence[:1].upper() + sentence[1:] + separator for sentence, separator in pairs
        )


@cache
def _vocabulary() -> tuple[Any, Any]:
    """List words with cumulative weights up to 1: half of all words drawn are function words."""
    words = {word: 1 / rank for rank, word in enumerate(FUNCTION_WORDS.split(), 3)}
    n_function_words = sum(words.values())
    stems, parts = STEMS.split(), SYLLABLES.split()
    content = [stem.removesuffix("e") + end for stem in stems for end in ENDINGS.split()]
    content += [f"{a}{b}{c}".title() for a in parts for b in parts for c in parts[:8]]
    content += [str(number) for number in range(2, 400)]
    content += [f"{number / 10}" for number in range(11, 200, 2)]
    Random(SEED).shuffle(content)  # noqa: S311 - see make_chunk
    weights = [1 / (rank + 50) for rank in range(len(content))]
    factor = n_function_words / sum(weights)
    for word, weight in zip(content, weights, strict=True):
        words.setdefault(word, weight * factor)
    cumulative = numpy.cumsum(list(words.values()))
    return numpy.array(list(words), dtype=object), cumulative / cumulative[-1]


def _make_row(random: Random, writer: _Writer, earlier: list[Row]) -> Row:
    """Make one row; now and then from one of the earlier ones."""
    chance = random.random()
    kind = ""
    for name, share in PLANTED.items():
        if chance < share:
            kind = name
            break
        chance -= share
    if earlier and kind in ("duplicate", "near_duplicate", "contradiction"):
        chosen = earlier[int(random.random() * len(earlier))]
        return _copy_of(chosen, kind, writer)
    row = _fresh_row(random, writer)
    answer = row[-1]
    if kind == "email":
        user, host = random.choices(STEMS.split(), k=2)
        row[0]["content"] += f" Write to {user}@{host}.org."
    elif kind == "placeholder":
        answer["content"] += "\n\nBest regards,\n[Your Name]"
    elif kind == "empty":
        answer["content"] = ""
    if random.random() < NON_ASCII_FRACTION:
        for message in row:
            message["content"] += " " + " ".join(random.choices(FOREIGN_WORDS.split(), k=3))
    return row


def _fresh_row(random: Random, writer: _Writer) -> Row:
    """Make a row of one or two turns, some with a system prompt."""
    row: Row = []
    chance = random.random()
    if chance < 0.2:
        row.append({"role": "system", "content": SYSTEM_PROMPTS[int(chance * 25)]})
    n_turns = 2 if 0.2 <= chance < 0.4 else 1
    factor = ANSWER_FACTOR if n_turns == 1 else 1
    for _ in range(n_turns):
        row.append({"role": "user", "content": writer.text(MEAN_WORDS, "?")})
        row.append({"role": "assistant", "content": writer.text(factor * MEAN_WORDS, ".")})
    return row


def _copy_of(chosen: Row, kind: str, writer: _Writer) -> Row:
    """Repeat a row, change a word of it, or answer its prompt otherwise."""
    copy: Row = [dict(message) for message in chosen]
    if kind == "near_duplicate":
        copy[-1]["content"] += " Thanks."
    elif kind == "contradiction":
        copy[-1]["content"] = writer.text(MEAN_WORDS, ".")
    return copy


def copy_lines(source: Path, target: Path, n_rows: int) -> list[dict[str, Any]]:
    """Copy the first rows of a file to a file of their own.

    Args:
        source: JSON lines.
        target: Gets the rows.
        n_rows: How many, at most.

    Returns:
        The rows.
    """
    rows = []
    with source.open("rb") as lines, target.open("wb") as copied:
        for _, line in zip(range(n_rows), lines, strict=False):
            copied.write(line)
            rows.append(json.loads(line))
    return rows
