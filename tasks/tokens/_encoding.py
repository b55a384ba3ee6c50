"""Texts to token ids, and the tokens at which what is trained begins and ends."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from threading import Lock
from typing import TYPE_CHECKING, Any

from tasks.tokens._texts import RowText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TAIL_CHARACTERS = 64
MAX_SHARED = 10_000
"""Texts kept with their tokens; a template has a handful."""
MAX_LOOKUPS = 32
"""Characters looked up one by one in a row; each takes time in proportion to the row."""


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """Places of the trained pieces and of the prompt, in tokens."""

    spans: list[tuple[int, int]]
    n_common_tokens: int
    """Tokens that the row and its prompt have in common at the start."""
    prompt_is_prefix: bool


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """Token ids of one row, with what finds a character's place in them."""

    ids: list[int]
    parts: Sequence[str] = ()
    """Texts between added tokens, and at odd places the added tokens themselves."""
    token_starts: Sequence[int] = ()
    """Token at which each part begins."""
    encoding: Any = None
    """What has the offsets, where parts are not enough."""
    prompt_ids: Sequence[int] = ()
    """With the offsets only."""


class Encoder:
    """A tokenizer that encodes each of the template's own texts once.

    Every tokenizer of the `tokenizers` library cuts a text at its added tokens first, and encodes
    what is between them by itself. So does this one, but it keeps the parts that rows have in
    common, and it finds a character from the part it is in: keeping the offsets of all tokens
    would take a third longer (tokenizers 0.22). Where a tokenizer or a template is made
    differently, complete rows are encoded with offsets.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Collect the added tokens, and set the tokenizer to encode complete texts."""
        self.backend: Any = tokenizer.backend_tokenizer
        self.backend.no_truncation()
        self.backend.no_padding()
        self.backend.encode_special_tokens = tokenizer.split_special_tokens
        self.unknown_id = tokenizer.unk_token_id
        added = self.backend.get_added_tokens_decoder()
        self.marks = {mark.content: token for token, mark in added.items() if not mark.normalized}
        longest_first = sorted(self.marks, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)).join("()"))
        # Such tokens take white space next to them or look at it, so parts are not independent.
        is_unsure = any(mark.lstrip or mark.rstrip or mark.single_word for mark in added.values())
        self.has_parts = bool(self.marks) and not is_unsure
        self.is_tried = False
        self.n_found = self.n_missed = 0
        self._shared: dict[str, list[int]] = {"": []}
        self._tails: dict[str, list[int] | None] = {}
        self._lock = Lock()

    def encode(self, rows: Sequence[RowText]) -> list[EncodedRow]:
        """Encode rows; other Python threads run meanwhile."""
        with self._lock:
            if self.has_parts and not self.is_tried:
                whole = self._encode_all([row.text for row in rows])
                self.has_parts = whole == [row.ids for row in self._encode_parts(rows)]
                self.is_tried = True
        if self.has_parts and self.n_missed <= self.n_found:
            return self._encode_parts(rows)
        return self.encode_with_offsets(rows)

    def encode_with_offsets(self, rows: Sequence[RowText]) -> list[EncodedRow]:
        """Encode rows and their prompts, and keep the characters of each token."""
        texts = [row.text for row in rows]
        encodings = self.backend.encode_batch(texts, add_special_tokens=False)
        prompts = self._encode_all([row.prompt for row in rows])
        return [
            EncodedRow(encoding.ids, encoding=encoding, prompt_ids=prompt)
            for encoding, prompt in zip(encodings, prompts, strict=True)
        ]

    def _encode_all(self, texts: list[str]) -> list[list[int]]:
        encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _encode_parts(self, rows: Sequence[RowText]) -> list[EncodedRow]:
        split = [self.pattern.split(row.text) for row in rows]
        counts = Counter(chain.from_iterable(parts[::2] for parts in split))
        known = {part: self._shared[part] for part in counts if part in self._shared}
        new = [part for part in counts if part not in known]
        known.update(zip(new, self._encode_all(new), strict=True))
        if len(self._shared) < MAX_SHARED:
            self._shared.update((part, known[part]) for part in new if counts[part] > 1)
        encoded = []
        for parts in split:
            ids: list[int] = []
            starts = []
            for number, part in enumerate(parts):
                starts.append(len(ids))
                if number % 2:
                    ids.append(self.marks[part])
                else:
                    ids += known[part]
            encoded.append(EncodedRow(ids, parts, starts))
        return encoded

    def place(self, encoded: EncodedRow, row: RowText) -> PlacedRow:
        """Find the tokens of the trained pieces and of the prompt."""
        if encoded.encoding is not None:
            return place_by_offsets(row, encoded)
        placed = self._place_by_parts(row, encoded)
        if placed is not None:
            self.n_found += 1
            return placed
        self.n_missed += 1
        return place_by_offsets(row, self.encode_with_offsets([row])[0])

    def _place_by_parts(self, row: RowText, encoded: EncodedRow) -> PlacedRow | None:
        """Find pieces and prompt; None when the prompt is no prefix or a place is not certain."""
        if not row.text.startswith(row.prompt):
            return None
        begins = [0, *accumulate(map(len, encoded.parts))]

        def count_before(character: int) -> int | None:
            """Count the tokens before a character; None where a token may span it."""
            number = bisect_right(begins, character, hi=len(encoded.parts)) - 1
            start = encoded.token_starts[number]
            if begins[number] == character:
                return start
            tail = self._encode_tail(encoded.parts[number][: character - begins[number]])
            if tail is None or encoded.ids[start : start + len(tail)] != tail:
                return None
            return start + len(tail)

        n_prompt_tokens = count_before(len(row.prompt))
        if n_prompt_tokens is None:
            return None
        spans = []
        for start, end in row.spans:
            first, last = count_before(start), count_before(end)
            if first is None or last is None:
                return None
            spans.append((first, last))
        return PlacedRow(spans, n_prompt_tokens, prompt_is_prefix=True)

    def _encode_tail(self, text: str) -> list[int] | None:
        """Encode the few characters between an added token and a place that is looked for.

        None when they are too many to be the template's own, contain characters that the vocabulary
        lacks, or end in one that may take several tokens.
        """
        if text not in self._tails:
            if len(self._tails) >= MAX_SHARED:
                self._tails.clear()
            is_plain = len(text) <= MAX_TAIL_CHARACTERS and text[-1:].isascii()
            ids = self._encode_all([text])[0] if is_plain else None
            self._tails[text] = None if ids is None or self.unknown_id in ids else ids
        return self._tails[text]


def place_by_offsets(row: RowText, encoded: EncodedRow) -> PlacedRow:
    """Find pieces by the characters of each token; one across the edge of a piece belongs to it."""
    encoding = encoded.encoding
    n_common = common_prefix(encoded.ids, encoded.prompt_ids)
    find = encoding.char_to_token if len(row.spans) < MAX_LOOKUPS else _finder(encoding.offsets)
    spans = []
    for start, end in row.spans:
        # White space at the edges may belong to no token.
        first = _first_found(find, range(start, end))
        last = _first_found(find, range(end - 1, start - 1, -1))
        if first is not None and last is not None:
            spans.append((first, _end_of_character(encoding, last)))
    return PlacedRow(spans, n_common, prompt_is_prefix=n_common == len(encoded.prompt_ids))


def _first_found(find: Callable[[int], int | None], characters: Iterable[int]) -> int | None:
    for character in characters:
        token = find(character)
        if token is not None:
            return token
    return None


def _end_of_character(encoding: Any, token: int) -> int:
    """Count the tokens up to the end of a character, which may take several."""
    _, end = encoding.token_to_chars(token)
    token += 1
    while token < len(encoding) and (found := encoding.token_to_chars(token)) and found[0] < end:
        token += 1
    return token


def _finder(offsets: list[tuple[int, int]]) -> Callable[[int], int | None]:
    """Look characters up in time that does not grow with the row."""
    ends = [end for _, end in offsets]

    def find(character: int) -> int | None:
        token = bisect_right(ends, character)
        return token if token < len(ends) and offsets[token][0] <= character else None

    return find


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Count the equal tokens before the first difference."""
    for number, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return number
    return min(len(first), len(second))
