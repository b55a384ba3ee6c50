"""Near duplicates: signatures and clusters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy
import polars
import pytest

from schemas.errors import WorkDirectoryError
from tasks.rows import _pairs, near_duplicates
from tasks.rows.near_duplicates import (
    DEFAULT_THRESHOLD,
    N_PERMUTATIONS,
    Banding,
    NearDuplicateIndex,
    plan_bands,
    sign_rows,
    signatures,
)
from tasks.rows.shared_text import own_words


def sign(texts: Sequence[str | None], threshold: float = DEFAULT_THRESHOLD) -> numpy.ndarray:
    return signatures(polars.Series(texts, dtype=polars.String), threshold)


def clusters_of(
    folder: Path,
    texts: Sequence[str | None],
    threshold: float = DEFAULT_THRESHOLD,
    block_rows: int = 1000,
) -> list[int]:
    with NearDuplicateIndex(folder, threshold) as index:
        for low in range(0, len(texts), block_rows):
            index.add(sign(texts[low : low + block_rows], threshold))
        found = index.clusters()
    # Texts alone have no ends that could differ.
    assert found.copies.tolist() == found.alike.tolist()
    return found.alike.tolist()


def words(name: str, n_words: int) -> list[str]:
    return [f"{name}{number}" for number in range(n_words)]


def pair(name: str, n_shingles: int, n_changed: int) -> tuple[str, str]:
    """Make two texts of so many shingles, of which the last ones differ.

    Changing the last k of s + 2 words changes k of s shingles: J = (s - k) / (s + k).
    """
    text = words(name, n_shingles + 2)
    other = text[: len(text) - n_changed] + words(f"{name}other", n_changed)
    return " ".join(text), " ".join(other)


def pairs(n_pairs: int, n_shingles: int, n_changed: int) -> list[str]:
    made = [pair(f"p{number}x", n_shingles, n_changed) for number in range(n_pairs)]
    return [text for both in made for text in both]


def test_plan_bands_at_the_default_gives_twelve_of_four() -> None:
    assert plan_bands(0.8) == Banding(12, 4)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0])
def test_plan_bands_finds_99_of_100_pairs_at_the_threshold(threshold: float) -> None:
    banding = plan_bands(threshold)
    assert banding.n_bands * banding.band_width <= N_PERMUTATIONS
    assert 1 - (1 - threshold**banding.band_width) ** banding.n_bands >= 0.99


def test_signatures_estimate_a_known_similarity() -> None:
    """50 pairs of J = 80 / 120 = 2/3; the mean of 50 estimates has a standard error of 0.006."""
    signed = sign(pairs(50, 100, 20))
    values = signed[:, 13:45].copy().view(numpy.uint8)
    share = (values[0::2] == values[1::2]).mean()
    assert values.shape == (100, 128)
    assert (share - 1 / 256) / (255 / 256) == pytest.approx(2 / 3, abs=0.02)


def test_signatures_do_not_depend_on_the_rows_around() -> None:
    texts = [*pairs(3, 20, 2), "", "one", "one two", None, "中国的首都是北京"]
    whole = sign(texts * 60)
    assert whole.dtype == numpy.uint32
    assert (whole[: len(texts)] == whole[-len(texts) :]).all()
    for number, text in enumerate(texts):
        assert (sign([text])[0] == whole[number]).all()


def test_signatures_stay_the_same_for_ever() -> None:
    """A pinned figure: a library that signs differently would move rows between splits."""
    assert sign(["the cat sat on the mat"])[0, :2].tolist() == [3263875627, 3923285711]


def test_signatures_of_no_rows_have_their_shape() -> None:
    assert sign([]).shape == (0, 61)


def test_clusters_join_pairs_above_the_threshold(tmp_path: Path) -> None:
    """J = 95 / 105 = 0.905 is found at 0.8, all of 200."""
    found = clusters_of(tmp_path, pairs(200, 100, 5))
    assert found == [number - number % 2 for number in range(400)]


def test_clusters_leave_pairs_below_the_threshold_alone(tmp_path: Path) -> None:
    """J = 75 / 125 = 0.6 is five standard errors below 0.8."""
    assert clusters_of(tmp_path, pairs(200, 100, 25)) == list(range(400))


@pytest.mark.parametrize(("threshold", "is_found"), [(0.6, True), (0.9, False)])
def test_clusters_follow_the_threshold(tmp_path: Path, threshold: float, is_found: bool) -> None:
    """J = 87 / 113 = 0.77."""
    found = clusters_of(tmp_path, pairs(100, 100, 13), threshold)
    assert found == [number - number % 2 if is_found else number for number in range(200)]


def test_clusters_find_planted_ones_among_others(tmp_path: Path) -> None:
    texts = [" ".join(words(f"alone{number}x", 30)) for number in range(500)]
    for first, *later in ([3, 100, 499], [7, 8], [250, 400, 401, 402]):
        for number in later:
            texts[number] = f"{texts[first]} w{number}"
    found = clusters_of(tmp_path, texts)
    expected = list(range(500))
    for first, *later in ([3, 100, 499], [7, 8], [250, 400, 401, 402]):
        for number in later:
            expected[number] = first
    assert found == expected


def test_clusters_chain_over_rows_in_between(tmp_path: Path) -> None:
    """Neighbours share 112 of 124 shingles, J = 0.90; the first and the last text share none."""
    stream = words("w", 400)
    texts = [" ".join(stream[start : start + 120]) for start in range(0, 280, 6)]
    assert clusters_of(tmp_path, texts) == [0] * len(texts)


def test_clusters_do_not_depend_on_the_blocks(tmp_path: Path) -> None:
    texts = pairs(150, 40, 2) + [""] * 3 + ["one two"] * 5
    random.Random(3).shuffle(texts)
    whole = clusters_of(tmp_path, texts, block_rows=1000)
    assert len(set(whole)) == 152
    assert clusters_of(tmp_path, texts, block_rows=7) == whole
    assert clusters_of(tmp_path, texts, block_rows=1) == whole


def test_clusters_of_short_texts_join_equal_ones_only(tmp_path: Path) -> None:
    texts = ["yes", "no", "yes", "yes please", "", None, "no", "yes please now", "yes please"]
    assert clusters_of(tmp_path, texts) == [0, 1, 0, 3, 4, 4, 1, 7, 3]


def test_clusters_work_without_spaces_between_words(tmp_path: Path) -> None:
    """One character of 50 changed: 3 of 48 shingles, J = 45 / 51 = 0.88."""
    signs = [chr(0x4E00 + 37 * number) for number in range(150)]
    chinese, other = "".join(signs[:50]), "".join(signs[100:])
    changed = chinese[:20] + signs[60] + chinese[21:]
    assert clusters_of(tmp_path, [chinese, other, changed]) == [0, 1, 0]


def test_equal_rows_are_compared_with_one_row_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set where all rows are the same must not be compared row with row."""
    n_compared = 0

    def count(left: numpy.ndarray, right: numpy.ndarray) -> numpy.ndarray:
        nonlocal n_compared
        n_compared += len(left)
        return _pairs.estimated_similarities(left, right)

    monkeypatch.setattr(near_duplicates, "estimated_similarities", count)
    block = numpy.repeat(sign(["the same row every time"]), 10_000, axis=0)
    with NearDuplicateIndex(tmp_path) as index:
        for _ in range(5):
            index.add(block)
        assert not index.clusters().copies.any()
    assert 0 < n_compared < 2 * 50_000


def test_clusters_find_pairs_within_one_long_template(tmp_path: Path) -> None:
    """All rows share a third of their words, so buckets hold many rows unlike each other."""
    template = " ".join(words("template", 20))
    texts = [f"{template} {text}" for text in pairs(400, 60, 3)]
    found = clusters_of(tmp_path, texts)
    n_found = sum(found[number] == number - 1 for number in range(1, 800, 2))
    assert n_found >= 396
    assert len(set(found)) >= 400


@pytest.mark.parametrize("n_rows", [0, 1, 2])
def test_clusters_of_hardly_any_rows(tmp_path: Path, n_rows: int) -> None:
    assert clusters_of(tmp_path, ["the same"] * n_rows) == [0] * n_rows


def test_index_removes_its_files(tmp_path: Path) -> None:
    with NearDuplicateIndex(tmp_path) as index:
        index.add(sign(["one", "two"]))
        assert len(list(tmp_path.iterdir())) == 15
    assert list(tmp_path.iterdir()) == []


def test_index_says_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(WorkDirectoryError) as caught:
        NearDuplicateIndex(tmp_path / "missing")
    assert caught.value.where == str(tmp_path / "missing")
    assert "Free some space" in caught.value.fix


@pytest.mark.parametrize("n_rows", [10, 10_000])
def test_index_says_when_the_disk_is_full(tmp_path: Path, n_rows: int) -> None:
    """A few rows wait in a buffer until clusters are asked for, many are written at once."""
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    (tmp_path / "band_00.bin").symlink_to("/dev/full")
    with pytest.raises(WorkDirectoryError) as caught:
        clusters_of(tmp_path, ["some text"] * n_rows, block_rows=n_rows)
    assert "No space left" in caught.value.got


def test_questions_on_one_passage_are_alike_and_no_copies(tmp_path: Path) -> None:
    """Rows 0 to 2 ask about one passage, and row 3 is a copy of row 1 with another word in the passage."""
    passage = words("p", 200)
    other = [*passage[:90], "changed", *passage[91:]]
    questions = ["where does it begin and why there", "who was the first of all of them"]
    texts = [
        [" ".join([*passage, questions[0]]), "yes"],
        [" ".join([*passage, questions[1]]), "yes"],
        [" ".join([questions[0], *passage]), "no"],
        [" ".join([*other, questions[1]]), "yes"],
    ]
    starts = numpy.arange(0, 8, 2)
    own = own_words(
        polars.Series([text for row in texts for text in row]),
        (starts, starts + 1, starts + 2),
        numpy.zeros(8, dtype=bool),
    )
    with NearDuplicateIndex(tmp_path) as index:
        index.add(sign_rows(own))
        found = index.clusters()
    assert found.alike.tolist() == [0, 0, 0, 0]
    assert found.copies.tolist() == [0, 1, 2, 1]
