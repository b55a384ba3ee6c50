"""The champion of a real registry as the challenger's opponent."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.config.evaluation import EvaluationConfig
from schemas.config.registry import RegistryConfig
from schemas.errors import ModelSourceError, RegistryBusy
from schemas.records.references import ChampionReference, Role, TrainedReference
from tasks.engine.cache import OutputFolder, locate, look_up
from tasks.engine.jsonl import read_jsonl
from tasks.engine.keys import stage_key
from tasks.evaluate_champion import champion_fingerprint, evaluate_champion, opponent_model
from tasks.registry.champion import fetch_opponent, find_opponent
from tasks.registry.store import connect
from tasks.registry.tags import MODEL_TAG
from tests.support.evaluations import write_quality
from tests.support.toy import make_toy_model

pytestmark = pytest.mark.integration

REGISTRY = RegistryConfig(name="toy")
EVALUATION = EvaluationConfig(n_generation_rows=2, max_new_tokens=3)
CHALLENGER = TrainedReference(
    stage="train_model",
    folder="stages/train_model/k",
    sha256="c" * 64,
    device="cpu",
    n_steps=1,
    n_tokens_seen=1,
    first_loss=1.0,
    last_loss=1.0,
    n_trainable_parameters=1,
)
Register = Callable[..., int]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("champion") / "model")


@pytest.fixture
def home(mlflow_home: Path) -> Path:
    return mlflow_home


@pytest.fixture
def register(home: Path, toy: Path) -> Register:
    """Give a function that registers the toy model as `mlflow.transformers` lays it out."""
    client = connect()
    client.create_registered_model(REGISTRY.name)

    def make(sha256: str | None, *aliases: str) -> int:
        folder = home / "registered" / f"{len(list(home.glob('registered/*')))}"
        shutil.copytree(toy, folder / "model")
        shutil.copytree(toy, folder / "components" / "tokenizer")
        tags = {MODEL_TAG: sha256} if sha256 else {}
        version = client.create_model_version(REGISTRY.name, folder.as_uri(), tags=tags)
        for alias in aliases:
            client.set_registered_model_alias(REGISTRY.name, alias, version.version)
        return int(version.version)

    return make


def run(home: Path, toy: Path) -> ChampionReference:
    """Run the stage's own function, as the decorator does."""
    quality = write_quality(home, toy)
    arguments = {
        "trained": CHALLENGER,
        "quality": quality,
        "evaluation": EVALUATION,
        "registry": REGISTRY,
        "seed": 1,
    }
    key = stage_key(evaluate_champion.definition, arguments)
    function = inspect.unwrap(evaluate_champion.fn)
    found: ChampionReference = function(OutputFolder(key), *arguments.values())
    assert look_up(evaluate_champion.definition, key).reference == found
    return found


def test_no_champion_is_a_result_without_scores(home: Path, toy: Path) -> None:
    found = run(home, toy)
    assert (found.version, found.evaluation) == (None, None)


def test_champion_is_judged_on_the_same_rows(home: Path, toy: Path, register: Register) -> None:
    version = register("m" * 64, "champion")
    found = run(home, toy)
    assert found.version == version
    assert found.evaluation is not None
    assert found.evaluation.role is Role.CHAMPION
    assert found.evaluation.model_sha256 == "m" * 64
    assert found.evaluation.metrics["loss"] is not None
    assert len(read_jsonl(locate(found.evaluation, "losses.jsonl"))) == found.evaluation.n_rows
    assert len(read_jsonl(locate(found.evaluation, "answers.jsonl"))) == 2


def test_champion_judged_before_is_not_loaded_again(
    home: Path, toy: Path, register: Register
) -> None:
    register("m" * 64, "champion")
    first = run(home, toy)
    shutil.rmtree(home / "registered")
    register("m" * 64, "champion")  # a new version of the same model
    shutil.rmtree(home / "registered")
    second = run(home, toy)
    assert first.evaluation is not None
    assert second.evaluation is not None
    assert (first.version, second.version) == (1, 2)
    assert first.evaluation.metrics == second.evaluation.metrics
    assert first.sha256 != second.sha256  # the decision depends on the version


def test_version_without_a_tag_is_known_by_its_files(
    home: Path, toy: Path, register: Register
) -> None:
    register(None, "champion")
    opponent = find_opponent(REGISTRY, CHALLENGER.sha256)
    assert opponent is not None
    first = opponent_model(opponent).sha256
    assert len(first) == 64
    assert opponent_model(opponent).sha256 == first
    found = run(home, toy)
    assert found.evaluation is not None
    assert found.evaluation.model_sha256 == first


@pytest.mark.parametrize(("previous", "expected"), [("p" * 64, 1), ("c" * 64, None), (None, 1)])
def test_own_model_as_champion_is_compared_with_the_one_before(
    previous: str | None, expected: int | None, register: Register
) -> None:
    register(previous, "previous")
    register(CHALLENGER.sha256, "champion")
    found = find_opponent(REGISTRY, CHALLENGER.sha256)
    assert (found.version if found else None) == expected


def test_own_model_as_champion_without_one_before_has_no_opponent(register: Register) -> None:
    register(CHALLENGER.sha256, "champion")
    assert find_opponent(REGISTRY, CHALLENGER.sha256) is None


def test_fingerprint_follows_the_alias(register: Register, home: Path, toy: Path) -> None:
    arguments = {
        "registry": REGISTRY,
        "trained": CHALLENGER,
        "quality": write_quality(home, toy),
        "evaluation": EVALUATION,
    }
    assert champion_fingerprint(arguments).startswith("none\n")
    register("m" * 64, "champion")
    first = champion_fingerprint(arguments)
    assert first.startswith(f"version 1 {'m' * 64}\n")
    assert champion_fingerprint(arguments) == first
    register("n" * 64, "champion")
    assert champion_fingerprint(arguments).startswith(f"version 2 {'n' * 64}\n")


def test_alias_that_moves_while_the_stage_begins_is_tried_again(
    home: Path, toy: Path, register: Register
) -> None:
    arguments = {
        "trained": CHALLENGER,
        "quality": write_quality(home, toy),
        "evaluation": EVALUATION,
        "registry": REGISTRY,
        "seed": 1,
    }
    key = stage_key(evaluate_champion.definition, arguments)
    register("m" * 64, "champion")
    with pytest.raises(RegistryBusy, match="the champion changed") as caught:
        inspect.unwrap(evaluate_champion.fn)(OutputFolder(key), *arguments.values())
    assert caught.value.is_retryable


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_champion_that_cannot_be_loaded_fails_the_run(
    harm: str, home: Path, toy: Path, register: Register
) -> None:
    register("m" * 64, "champion")
    weights = home / "registered" / "0" / "model" / "model.safetensors"
    if harm == "gone":
        shutil.rmtree(home / "registered")
    else:
        weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelSourceError, match="the champion cannot be loaded") as caught:
        run(home, toy)
    assert "models:/toy/1" in caught.value.where
    assert "sft-flow rollback toy" in caught.value.fix


def test_fetch_opponent_gives_model_and_tokenizer(register: Register) -> None:
    register("m" * 64, "champion")
    opponent = find_opponent(REGISTRY, CHALLENGER.sha256)
    assert opponent is not None
    with fetch_opponent(opponent) as (model, tokenizer):
        assert (model / "config.json").is_file()
        assert (tokenizer / "tokenizer.json").is_file()
