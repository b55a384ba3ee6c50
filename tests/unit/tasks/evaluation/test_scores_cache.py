"""Kept scores: found by what they depend on, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.records.references import StageReference
from tasks.engine.keys import StageDefinition
from tasks.evaluation.scores_cache import copy_scores, keep_scores, model_in


class Kept(StageReference):
    """A record with one field."""

    n_rows: int


DEFINITION = StageDefinition("kept_for_tests", "tasks.evaluation.losses", Kept)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def measured() -> list[str]:
    return []


@pytest.fixture
def measure(measured: list[str]) -> Callable[[Path], dict[str, int]]:
    def fill(folder: Path) -> dict[str, int]:
        measured.append("measured")
        (folder / "scores.jsonl").write_text(f"{len(measured)}\n", encoding="utf-8")
        return {"n_rows": len(measured)}

    return fill


def test_keep_scores_measures_once(
    measure: Callable[[Path], dict[str, int]], measured: list[str]
) -> None:
    first = keep_scores(DEFINITION, {"model": "a"}, measure, Kept, is_renewed=False)
    again = keep_scores(DEFINITION, {"model": "a"}, measure, Kept, is_renewed=False)
    other = keep_scores(DEFINITION, {"model": "b"}, measure, Kept, is_renewed=False)
    assert first == again
    assert (first.n_rows, other.n_rows) == (1, 2)
    assert len(measured) == 2


def test_keep_scores_measures_anew_when_asked(measure: Callable[[Path], dict[str, int]]) -> None:
    keep_scores(DEFINITION, {"model": "a"}, measure, Kept, is_renewed=False)
    renewed = keep_scores(DEFINITION, {"model": "a"}, measure, Kept, is_renewed=True)
    assert renewed.n_rows == 2
    kept = keep_scores(DEFINITION, {"model": "a"}, measure, Kept, is_renewed=False)
    assert kept == renewed


def test_keep_scores_keeps_nothing_of_a_failure(
    home: Path, measure: Callable[[Path], dict[str, int]]
) -> None:
    def fail(folder: Path) -> dict[str, int]:
        (folder / "half").write_text("half", encoding="utf-8")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        keep_scores(DEFINITION, {}, fail, Kept, is_renewed=False)
    assert not any(path.is_dir() for path in (home / "stages" / DEFINITION.name).iterdir())
    assert keep_scores(DEFINITION, {}, measure, Kept, is_renewed=False).n_rows == 1


def test_copy_scores_leaves_the_kept_files_alone(
    tmp_path: Path, home: Path, measure: Callable[[Path], dict[str, int]]
) -> None:
    kept = keep_scores(DEFINITION, {}, measure, Kept, is_renewed=False)
    copy_scores(kept, tmp_path)
    assert (tmp_path / "scores.jsonl").read_text() == "1\n"
    (tmp_path / "scores.jsonl").write_text("damaged")
    assert (home / kept.folder / "scores.jsonl").read_text() == "1\n"
    assert not (tmp_path / "manifest.json").exists()


def test_model_in_gives_the_folder_for_both(tmp_path: Path) -> None:
    model = model_in(tmp_path, "m" * 64)
    with model.fetch() as folders:
        assert folders == (tmp_path, tmp_path)
    assert model.sha256 == "m" * 64
