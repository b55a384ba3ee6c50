"""Models of a real MLflow registry as the model to start from."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from schemas.config.run import ModelConfig, RunConfig, TemplateConfig
from schemas.errors import ModelSourceError, ServiceUnreachable
from schemas.records.references import TemplateReference
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.keys import stage_key
from tasks.engine.scratch import PREFIX
from tasks.models.source import choose_start, load_model, model_fingerprint
from tasks.prepare_template import prepare_template
from tasks.registry.store import connect, experiment_id
from tasks.registry.versions import find_registered
from tasks.release.chat_model import ChatFlavor, log_chat_model
from tests.support.evidence import CONFIG
from tests.support.toy import make_toy_model

pytestmark = pytest.mark.integration

NAME = "faq-toy"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_db: Path) -> tuple[str, Path]:
    """A store with one version, alias champion, and a second that holds no model."""
    import mlflow

    home = tmp_path_factory.mktemp("store")
    shutil.copy(empty_mlflow_db, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_HOME", str(home))
        client = connect()
        folder = make_toy_model(home / "toy")
        with mlflow.start_run(experiment_id=experiment_id(client, "tests")) as run:
            version = mlflow.register_model(log_chat_model(CONFIG, folder), NAME)
            mlflow.log_text("nothing", "other/note.txt")
        client.set_registered_model_alias(NAME, "champion", version.version)
        client.create_model_version(NAME, f"{run.info.artifact_uri}/other", run.info.run_id)
    return str(run.info.run_id), home


@pytest.fixture(autouse=True)
def _use_store(store: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_HOME", str(store[1]))


@pytest.mark.parametrize("address", [f"models:/{NAME}@champion", f"models:/{NAME}/1"])
def test_registered_model_loads_as_it_was_logged(store: tuple[str, Path], address: str) -> None:
    import torch

    model, tokenizer = load_model(ModelConfig(source=address))
    original, _ = load_model(ModelConfig(source=str(store[1] / "toy")))
    assert torch.equal(model.lm_head.weight, original.lm_head.weight)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.chat_template


def test_weights_are_copied_where_a_killed_run_leaves_nothing(
    store: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []

    def fail(path: str, *_: object, **__: object) -> None:
        places.append(Path(path))
        raise OSError("stopped before weights are written")

    monkeypatch.setattr(ChatFlavor, "save_model", fail)
    with pytest.raises(OSError, match="stopped"):
        log_chat_model(CONFIG, store[1] / "toy")
    assert any(parent.name.startswith(PREFIX) for parent in places[0].parents)


def test_fingerprint_is_version_and_run(store: tuple[str, Path]) -> None:
    config = ModelConfig(source=f"models:/{NAME}@champion")
    assert model_fingerprint(config) == f"{NAME} version 1 run {store[0]}"


@pytest.mark.parametrize(
    "address", ["models:/none/1", f"models:/{NAME}@none", f"models:/{NAME}/9", "models:/a/b/c"]
)
def test_unknown_version_is_a_wrong_source(address: str) -> None:
    with pytest.raises(ModelSourceError, match="the registry has no such model") as caught:
        find_registered(address)
    assert address in caught.value.where


def continuing(store: tuple[str, Path], alias: str = "champion") -> ModelConfig:
    settings = {"source": str(store[1] / "toy"), "continue_from": alias}
    return RunConfig.model_validate({"model": settings, "registry": {"name": NAME}}).start


def prepare(model: ModelConfig) -> TemplateReference:
    arguments = {"model": model, "template": TemplateConfig(), "seed": 1}
    output = OutputFolder(stage_key(prepare_template.definition, arguments))
    with disable_run_logger():
        return inspect.unwrap(prepare_template.fn)(output, **arguments)


def test_training_continues_from_the_version_that_has_the_alias(store: tuple[str, Path]) -> None:
    reference = prepare(continuing(store))
    assert reference.model_name == f"models:/{NAME}/1"
    assert reference.model_fingerprint == f"{NAME} version 1 run {store[0]}"
    assert reference.start_note == (
        f"training continues from version 1 of {NAME} (models:/{NAME}@champion)"
    )
    assert (locate(reference, "model") / "model.safetensors").is_file()
    assert reference.template_origin == "model"


def test_training_starts_from_the_source_while_nothing_has_the_alias(
    store: tuple[str, Path],
) -> None:
    config = continuing(store, "nobody")
    reference = prepare(config)
    assert reference.model_name == config.source
    assert reference.model_fingerprint == model_fingerprint(ModelConfig(source=config.source))
    assert reference.start_note == (
        f"models:/{NAME}@nobody does not exist yet: training starts from {config.source}"
    )
    assert choose_start(continuing(store, "models:/none@champion")).model.source == config.source


def test_training_names_the_version_of_a_registered_source_by_its_number() -> None:
    for address in (f"models:/{NAME}@champion", f"models:/{NAME}/1"):
        start = choose_start(ModelConfig(source=address))
        assert (start.model.source, start.note) == (f"models:/{NAME}/1", "")


def test_key_follows_the_alias_to_another_version(store: tuple[str, Path]) -> None:
    def key() -> dict[str, str]:
        arguments = {"model": continuing(store), "template": TemplateConfig(), "seed": 1}
        return stage_key(prepare_template.definition, arguments).parts

    before = key()
    client = connect()
    client.set_registered_model_alias(NAME, "champion", "2")
    try:
        after = key()
    finally:
        client.set_registered_model_alias(NAME, "champion", "1")
    assert {name for name in before if before[name] != after[name]} == {"source content"}
    assert key() == before


def test_registry_that_is_needed_to_continue_and_does_not_answer_says_so(
    store: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnreachable, match="MLflow server cannot be reached"):
        choose_start(continuing(store))


def test_version_without_a_transformers_model_is_refused() -> None:
    with pytest.raises(ModelSourceError, match="has no transformers model") as caught:
        load_model(ModelConfig(source=f"models:/{NAME}/2"))
    assert caught.value.got == "no model/config.json"


def test_version_whose_files_were_deleted_is_refused(store: tuple[str, Path]) -> None:
    artifacts = store[1] / "artifacts"
    artifacts.rename(store[1] / "gone")
    try:
        with pytest.raises(ModelSourceError, match="has no transformers model"):
            load_model(ModelConfig(source=f"models:/{NAME}/1"))
    finally:
        (store[1] / "gone").rename(artifacts)


def test_unreachable_registry_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnreachable, match="MLflow server cannot be reached"):
        load_model(ModelConfig(source=f"models:/{NAME}/1"))
