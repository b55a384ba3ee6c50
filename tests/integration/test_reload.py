"""The reload check on real registered files, whole and tampered with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.errors import RegistryError, ReloadMismatch
from schemas.records.references import VersionReference
from tasks.registry.store import connect
from tasks.registry.tags import WEIGHTS_TAG
from tasks.release.reload import check, run
from tasks.release.reload.check import check_reload
from tests.support.evidence import make_evidence, register

pytestmark = [pytest.mark.integration, pytest.mark.real_processes]


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory, empty_mlflow_db: Path
) -> tuple[Path, VersionReference]:
    home = tmp_path_factory.mktemp("reload")
    shutil.copy(empty_mlflow_db, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_HOME", str(home))
        return home, register(make_evidence(home))


@pytest.fixture
def files(
    registered: tuple[Path, VersionReference], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Path]:
    """The version's files, put back as they were after the test."""
    monkeypatch.setenv("SFT_HOME", str(registered[0]))
    model_id = registered[1].model_uri.rsplit("/", 1)[-1]
    folder = registered[0] / "artifacts/models" / model_id / "artifacts"
    shutil.copytree(folder, tmp_path / "whole")
    yield folder
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "whole", folder)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the start of another process where the message is what is tested."""
    monkeypatch.setattr(
        check,
        "run_process",
        lambda spec: check.read_outcome(run.run(spec)),
    )


def test_a_whole_version_passes_in_a_fresh_process(files: Path) -> None:
    facts = check_reload("toy", 1, 2)
    assert (facts.n_answers, facts.n_differing_answers, facts.n_losses) == (2, 0, 4)
    assert facts.max_loss_difference < 1e-4


def tamper_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model/model.safetensors"
    weights = load_file(path)
    name = "model.layers.0.mlp.down_proj.weight"
    weights[name] = weights[name] * 1.5
    save_file(weights, path, metadata={"format": "pt"})


def tamper_template(folder: Path) -> None:
    path = folder / "components/tokenizer/chat_template.jinja"
    path.write_text(path.read_text().replace("user", "human") + " ")


def tamper_stop_tokens(folder: Path) -> None:
    path = folder / "model/generation_config.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"eos_token_id": [0, 1]}))


def tamper_dtype(folder: Path) -> None:
    path = folder / "model/config.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"dtype": "bfloat16"}))


def cut_weights(folder: Path) -> None:
    path = folder / "model/model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("tamper", "message", "got"),
    [
        (tamper_weights, "a loss of the registered model", "nats"),
        (tamper_template, "the chat template of the registered model", ""),
        (tamper_stop_tokens, "the stop tokens of the registered model", "(0, 1)"),
        (tamper_dtype, "the number format of the weights of the registered model", "bfloat16"),
        (cut_weights, "the registered files do not load", "SafetensorError"),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_tampered_files_are_told_apart(
    tamper: Callable[[Path], None], message: str, got: str, files: Path
) -> None:
    tamper(files)
    with pytest.raises(ReloadMismatch, match=message) as caught:
        check_reload("toy", 1, 2)
    assert caught.value.where.startswith("models:/toy/1")
    assert got in caught.value.got
    assert "--refresh register_model" in caught.value.fix
    assert not caught.value.is_retryable


@pytest.mark.usefixtures("in_this_process", "files")
def test_another_device_is_said(
    registered: tuple[Path, VersionReference], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "choose_device", lambda _: "cuda")
    with pytest.raises(
        RegistryError, match="evaluated on a device that is not available"
    ) as caught:
        check_reload("toy", 1, 2)
    assert (caught.value.expected, caught.value.got) == ("cpu", "cuda")


@pytest.mark.usefixtures("files")
def test_a_version_without_a_judging_is_not_usable(
    registered: tuple[Path, VersionReference],
) -> None:
    client = connect()
    with pytest.raises(RegistryError, match="there is no such version"):
        check_reload("toy", 99, 2)
    client.create_registered_model("bare")
    bare = client.create_model_version("bare", (registered[0] / "artifacts").as_uri())
    with pytest.raises(RegistryError, match="the version has no record of its evaluation"):
        check_reload("bare", int(bare.version), 2)
    client.set_model_version_tag("bare", bare.version, WEIGHTS_TAG, "deleted")
    with pytest.raises(RegistryError, match="weights were deleted"):
        check_reload("bare", int(bare.version), 2)
