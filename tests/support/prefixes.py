"""Rows that begin alike, and a model to put them through."""

from __future__ import annotations

import random

from datasets import Dataset

PREFIX = [5, 6, 7, 8]


def make_rows(n_rows: int = 9, prefix: list[int] | None = None, seed: int = 0) -> Dataset:
    """Rows of 2 to 6 prompt tokens and 1 to 20 labelled ones after the prefix."""
    generator = random.Random(seed)
    rows = []
    for number in range(n_rows):
        head = PREFIX if prefix is None else prefix
        prompt = [20 + number] + [generator.randrange(10, 200) for _ in range(1 + number % 5)]
        answer = [generator.randrange(10, 200) for _ in range(generator.randrange(1, 20))]
        ids = head + prompt + answer
        rows.append({"input_ids": ids, "labels": [-100] * (len(ids) - len(answer)) + answer})
    return Dataset.from_list(rows)
