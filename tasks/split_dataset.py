"""Stage `split_dataset`: part rows into training and evaluation by prompt, the same way each time."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from schemas.errors import ConfigError
from schemas.records import CheckedReference, SplitReference
from schemas.rows import Conversation
from schemas.run_config import SplitConfig
from tasks._cache import OutputFolder, locate
from tasks._keys import file_sha256
from tasks._lines import json_line, read_lines
from tasks._prompts import normalised_prompt
from tasks._stage import stage_task


class Side(StrEnum):
    """Where a row goes."""

    TRAIN = "train"
    EVAL = "eval"
    UNUSED = "unused"


@dataclass(frozen=True)
class SplitCounts:
    """What `split.json` says."""

    n_train_rows: int
    n_eval_rows: int
    n_unused_rows: int
    """Held out beyond max_eval_rows: neither trained nor judged."""
    n_prompts: int


def prompt_position(prompt: str, seed: int) -> float:
    """Give a prompt its place between 0 and 1, by hash, so that it never depends on other rows.

    Args:
        prompt: The normalised prompt.
        seed: Of the run.

    Returns:
        sha256(seed, prompt) over 2^256; prompts below the evaluation fraction are held out.
    """
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def choose_sides(positions: list[float], split: SplitConfig) -> list[Side]:
    """Decide for every row where it goes.

    Args:
        positions: Of each row's prompt; equal prompts have equal positions.
        split: Fraction and upper limit of the evaluation rows.

    Returns:
        The side of each row, in order.

    Raises:
        ConfigError: One side would be empty.
    """
    held_out = [n for n, position in enumerate(positions) if position < split.eval_fraction]
    if not held_out or len(held_out) == len(positions):
        raise _empty_side(positions, split, "evaluation" if not held_out else "training")
    held_out.sort(key=lambda number: (positions[number], number))
    judged = set(held_out[: split.max_eval_rows])
    unused = set(held_out[split.max_eval_rows :])
    return [
        Side.EVAL if number in judged else Side.UNUSED if number in unused else Side.TRAIN
        for number in range(len(positions))
    ]


def _empty_side(positions: list[float], split: SplitConfig, side: str) -> ConfigError:
    """Say which fraction would leave rows on both sides."""
    lowest = math.floor(min(positions) * 1000 + 1) / 1000
    highest = math.floor(max(positions) * 1000) / 1000
    n_prompts = len(set(positions))
    would_do = f"set split.eval_fraction to a value from {lowest:.3f} to {highest:.3f}"
    return ConfigError(
        f"the split would leave no {side} row",
        where="split.eval_fraction",
        expected="at least one prompt on each side",
        got=f"{split.eval_fraction:g} of {n_prompts:,} different prompts in {len(positions):,} rows",
        fix=would_do if lowest <= highest else "add rows with other prompts",
    )


def write_split(kept: Path, split: SplitConfig, seed: int, folder: Path) -> SplitCounts:
    """Write the rows of each side to a file of its own, in their order.

    Args:
        kept: A file of conversations, as `check_schema` writes it.
        split: Fraction and upper limit of the evaluation rows.
        seed: Of the run.
        folder: Gets `train.jsonl`, `eval.jsonl`, `unused.jsonl`, `split.json`.

    Returns:
        The counts.
    """
    positions = [
        prompt_position(normalised_prompt(Conversation.from_json(line).messages), seed)
        for line in read_lines(kept)
    ]
    sides = choose_sides(positions, split)
    streams = {
        side: (folder / f"{side}.jsonl").open("w", encoding="utf-8", newline="\n") for side in Side
    }
    try:
        for side, line in zip(sides, read_lines(kept), strict=True):
            streams[side].write(json_line(line))
    finally:
        for stream in streams.values():
            stream.close()
    n_rows = Counter(sides)
    counts = SplitCounts(
        n_rows[Side.TRAIN], n_rows[Side.EVAL], n_rows[Side.UNUSED], len(set(positions))
    )
    (folder / "split.json").write_text(json.dumps(asdict(counts), indent=1), encoding="utf-8")
    return counts


@stage_task(timeout_seconds=2 * 3600)
def split_dataset(
    output: OutputFolder, checked: CheckedReference, split: SplitConfig, seed: int
) -> SplitReference:
    """Hold out rows for evaluation; no prompt stands on both sides.

    Args:
        output: Gets `train.jsonl`, `eval.jsonl`, `unused.jsonl`, `split.json`.
        checked: The kept rows.
        split: Fraction and upper limit of the evaluation rows.
        seed: Of the run.

    Returns:
        Reference to both sides.
    """
    counts = write_split(locate(checked, "kept.jsonl"), split, seed, output.path)
    return output.commit(
        SplitReference,
        n_train_rows=counts.n_train_rows,
        n_eval_rows=counts.n_eval_rows,
        train_sha256=file_sha256(output.path / "train.jsonl"),
        eval_sha256=file_sha256(output.path / "eval.jsonl"),
    )
