"""Number the challengers of a champion on the same held-out rows, from the tags of the versions.

Each comparison is a chance for a model that is no better to pass. So a decision must know how many
came before it: `tasks.decision.spending` gives each of them its share of the error.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.records.decision import Challenge
from tasks.engine.home import has_store
from tasks.engine.jsonl import read_jsonl
from tasks.registry.store import connect, store_errors
from tasks.registry.tags import CHALLENGE_PREFIX, EVAL_SKETCH_TAG, FINGERPRINT_TAG
from tasks.registry.versions import search_versions

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

MAX_SKETCH_ROWS = 256
"""Digests in a sketch: the smallest ones, which are an even draw of all; 2,700 characters."""
DIGEST_BYTES = 8
SAME_ROWS = 0.5
"""Held-out sets that share more of their rows are the same set: their errors are mostly the same."""
OPPONENT_DIGITS = 16


def number_challenger(
    name: str, fingerprint: str, opponent_sha256: str, prompts: Path
) -> Challenge:
    """Find the number of a challenger among those compared with one opponent on the same rows.

    A version that was compared before keeps its number, so a repeated run decides the same. Rows
    that share at most half with every earlier set are a new set, where the count begins at 1.

    Args:
        name: Registered model name.
        fingerprint: Of the challenger, from `version_fingerprint`.
        opponent_sha256: Content of the champion, or of the base where there is no champion.
        prompts: `eval_prompts.jsonl`.

    Returns:
        Its number, and that of its set of rows.
    """
    opponent, sketch = opponent_sha256[:OPPONENT_DIGITS], eval_sketch(prompts)
    highest: dict[int, int] = {}
    sketches: dict[int, str] = {}
    for version, row_set, number in _challenges(name, opponent):
        if version.tags.get(FINGERPRINT_TAG) == fingerprint:
            return Challenge(opponent=opponent, row_set=row_set, number=number)
        highest[row_set] = max(highest.get(row_set, 0), number)
        sketches.setdefault(row_set, version.tags.get(EVAL_SKETCH_TAG, ""))
    for row_set, earlier in sorted(sketches.items()):
        if shared_fraction(earlier, sketch) > SAME_ROWS:
            return Challenge(opponent=opponent, row_set=row_set, number=highest[row_set] + 1)
    return Challenge(opponent=opponent, row_set=max(highest, default=0) + 1, number=1)


def challenge_tags(challenge: Challenge, prompts: Path) -> dict[str, str]:
    """Return the tags from which later challengers are numbered: one for each opponent, and the rows.

    Args:
        challenge: Of this version.
        prompts: Lines with `digest`, e.g. `eval_prompts.jsonl`.

    Returns:
        Tag to text.
    """
    return {
        f"{CHALLENGE_PREFIX}{challenge.opponent}": f"{challenge.row_set}.{challenge.number}",
        EVAL_SKETCH_TAG: eval_sketch(prompts),
    }


def eval_sketch(prompts: Path) -> str:
    """Return the digests of up to 256 held-out prompts, the smallest ones, as text for a tag."""
    return make_sketch(int(row["digest"], 16) for row in read_jsonl(prompts))


def make_sketch(digests: Iterable[int]) -> str:
    """Encode the smallest digests, 8 bytes each, in base64."""
    smallest = sorted(set(digests))[:MAX_SKETCH_ROWS]
    packed = b"".join(digest.to_bytes(DIGEST_BYTES, "big") for digest in smallest)
    return base64.b64encode(packed).decode()


def shared_fraction(first: str, second: str) -> float:
    """Compute the share of rows that two sketches have in common, of the smaller set.

    Of larger sets, those digests are compared that both sketches would contain. Texts that are no
    sketch share nothing.
    """
    one, other = _digests(first), _digests(second)
    if not one or not other:
        return 0.0
    is_cut = [max(found) for found in (one, other) if len(found) == MAX_SKETCH_ROWS]
    end = min(is_cut, default=max(*one, *other))
    one, other = ({digest for digest in found if digest <= end} for found in (one, other))
    smaller = min(len(one), len(other))
    return len(one & other) / smaller if smaller else 0.0


def _digests(sketch: str) -> set[int]:
    try:
        packed = base64.b64decode(sketch, validate=True)
    except (binascii.Error, ValueError):  # written by hand
        return set()
    starts = range(0, len(packed) - DIGEST_BYTES + 1, DIGEST_BYTES)
    return {int.from_bytes(packed[start : start + DIGEST_BYTES], "big") for start in starts}


def _challenges(name: str, opponent: str) -> Iterator[tuple[ModelVersion, int, int]]:
    """Yield the versions compared with an opponent, with their set of rows and number, oldest first."""
    if not has_store():
        return
    with store_errors():
        versions = list(search_versions(connect(), name))
    for version in reversed(versions):
        row_set, _, number = version.tags.get(f"{CHALLENGE_PREFIX}{opponent}", "").partition(".")
        if row_set.isdecimal() and number.isdecimal():
            yield version, int(row_set), int(number)
