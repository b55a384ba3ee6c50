"""Judging: one function for every side, and no model is measured twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tasks.engine._code_hash
from schemas.config.evaluation import EvaluationConfig
from schemas.errors import ConfigError
from schemas.records.references import EvaluationReference, QualityReference, Role
from tasks.engine._code_hash import code_sha256
from tasks.engine.cache import OutputFolder
from tasks.engine.jsonl import read_jsonl
from tasks.engine.keys import StageKey
from tasks.evaluation.evaluate import HELD_OUT, evaluate, evaluation_fingerprint
from tasks.evaluation.row_scores import read_groups
from tasks.evaluation.scores_cache import EvaluatedModel
from tests.support.evaluations import EVALUATION, N_ROWS, write_quality
from tests.support.toy import make_toy_model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("evaluation") / "model")


class Fetched:
    """A model that counts how often it was asked for."""

    def __init__(self, folder: Path, sha256: str = "m" * 64) -> None:
        self.n_times = 0
        self.folder = folder
        self.model = EvaluatedModel(sha256, self.fetch)

    @contextmanager
    def fetch(self) -> Iterator[tuple[Path, Path]]:
        self.n_times += 1
        yield self.folder, self.folder


def evaluate_toy(
    role: Role,
    model: EvaluatedModel,
    quality: QualityReference,
    evaluation: EvaluationConfig = EVALUATION,
    seed: int = 1,
) -> EvaluationReference:
    """Evaluate as a stage does."""
    output = OutputFolder(StageKey(f"evaluate_{role}", {"stage": f"evaluate_{role}"}))
    facts = evaluate(model, quality, evaluation, seed, output)
    return output.commit(EvaluationReference, role=role, **facts)


def test_evaluate_writes_every_file_and_names_the_model(home: Path, toy: Path) -> None:
    found = evaluate_toy(Role.BASE, Fetched(toy).model, write_quality(home, toy))
    folder = home / found.folder
    names = {"losses.jsonl", "answers.jsonl", "row_scores.jsonl", "slices.json", "metrics.json"}
    names |= {"prompt_dependence.jsonl", "retention_losses.jsonl", "retention_answers.jsonl"}
    names.add("rows.jsonl")
    assert {path.name for path in folder.iterdir()} == names | {"manifest.json"}
    assert len(read_jsonl(folder / "losses.jsonl")) == found.n_rows == N_ROWS
    assert len(read_jsonl(folder / "answers.jsonl")) == found.n_answers == 3
    assert json.loads((folder / "metrics.json").read_text()) == found.metrics
    assert found.metrics["loss"] == pytest.approx(
        sum(row["loss_sum_nats"] for row in read_jsonl(folder / "losses.jsonl"))
        / sum(row["n_tokens"] for row in read_jsonl(folder / "losses.jsonl"))
    )
    assert (found.model_sha256, found.eval_sha256) == ("m" * 64, "e" * 64)
    assert read_groups(folder, "loss") == {row: row for row in range(N_ROWS)}


def test_challenger_that_became_champion_is_not_loaded_again(home: Path, toy: Path) -> None:
    folder = home / "trained"
    shutil.copytree(toy, folder)
    quality = write_quality(home, toy)
    challenger = evaluate_toy(Role.CHALLENGER, Fetched(folder).model, quality)
    shutil.rmtree(folder)
    again = Fetched(folder)
    champion = evaluate_toy(Role.CHAMPION, again.model, quality)
    assert again.n_times == 0
    assert champion.sha256 == challenger.sha256
    assert champion.metrics == challenger.metrics
    assert champion.tokenizer_sha256 == challenger.tokenizer_sha256


def test_another_metric_does_not_ask_the_model_again(home: Path, toy: Path) -> None:
    quality, model = write_quality(home, toy), Fetched(toy)
    first = evaluate_toy(Role.BASE, model.model, quality)
    changed = EVALUATION.model_copy(update={"metrics": ()})
    second = evaluate_toy(Role.BASE, model.model, quality, changed)
    assert model.n_times == 1
    assert first.metrics.keys() > second.metrics.keys()


def test_edited_metric_is_seen_by_the_stage_and_does_not_ask_the_model_again(
    home: Path, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality, model = write_quality(home, toy), Fetched(toy)
    evaluate_toy(Role.BASE, model.model, quality)
    before, present = code_sha256("tasks.evaluate_model"), tasks.engine._code_hash.read_code

    def edited(module: str) -> str:
        return present(module) + ("edited" if module == "schemas.metrics" else "")

    monkeypatch.setattr(tasks.engine._code_hash, "read_code", edited)
    assert code_sha256("tasks.evaluate_model") != before
    evaluate_toy(Role.BASE, model.model, quality)
    assert model.n_times == 1


@pytest.mark.parametrize(
    ("change", "seed"),
    [({"max_new_tokens": 5}, 1), ({"n_generation_rows": 2}, 1), ({}, 2)],
    ids=["longer", "fewer", "seed"],
)
def test_other_settings_measure_again(
    change: Mapping[str, Any], seed: int, home: Path, toy: Path
) -> None:
    quality, model = write_quality(home, toy), Fetched(toy)
    evaluate_toy(Role.BASE, model.model, quality)
    evaluate_toy(Role.BASE, model.model, quality, EVALUATION.model_copy(update=change), seed)
    assert model.n_times == 2


def test_other_rows_or_another_model_measure_again(home: Path, toy: Path) -> None:
    model, other = Fetched(toy), Fetched(toy, "n" * 64)
    evaluate_toy(Role.BASE, model.model, write_quality(home, toy))
    evaluate_toy(Role.BASE, other.model, write_quality(home, toy))
    evaluate_toy(Role.BASE, model.model, write_quality(home, toy, "f" * 64))
    assert (model.n_times, other.n_times) == (2, 1)


def test_damaged_scores_are_measured_again(home: Path, toy: Path) -> None:
    quality, model = write_quality(home, toy), Fetched(toy)
    first = evaluate_toy(Role.BASE, model.model, quality)
    [kept] = (home / "stages" / HELD_OUT.name).glob("*/answers.jsonl")
    kept.write_text("[]", encoding="utf-8")
    second = evaluate_toy(Role.BASE, model.model, quality)
    assert model.n_times == 2
    assert first.sha256 == second.sha256


def test_failed_measuring_leaves_nothing_behind(home: Path, toy: Path) -> None:
    from schemas.errors import ModelSourceError

    quality = write_quality(home, toy)
    with pytest.raises(ModelSourceError, match="the model cannot be loaded"):
        evaluate_toy(Role.BASE, Fetched(home / "nowhere").model, quality)
    entries = [path for path in (home / "stages" / HELD_OUT.name).iterdir() if path.is_dir()]
    assert entries == []
    evaluate_toy(Role.BASE, Fetched(toy).model, quality)


def test_evaluation_fingerprint_follows_the_files(tmp_path: Path, toy: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text("{}", encoding="utf-8")
    evaluation = EVALUATION.model_copy(update={"json_schema": str(schema)})
    given = {"evaluation": evaluation, "quality": write_quality(tmp_path, toy)}
    before = evaluation_fingerprint(given)
    assert before == evaluation_fingerprint(given)
    schema.write_text('{"type": "object"}', encoding="utf-8")
    edited = evaluation_fingerprint(given)
    assert edited != before
    given["quality"] = given["quality"].model_copy(update={"retention_sha256": {"general": "a"}})
    assert evaluation_fingerprint(given) not in (before, edited)


def test_misspelt_slice_is_found_before_any_model_is_asked(home: Path, toy: Path) -> None:
    fetched, quality = Fetched(toy), write_quality(home, toy)
    settings = EvaluationConfig(slices=("topik",))
    with pytest.raises(ConfigError, match="the column 'topik'"):
        evaluate_toy(Role.BASE, fetched.model, quality, settings)
    assert fetched.n_times == 0
