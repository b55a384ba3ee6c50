"""Models made to harm: pickles, code, links and settings that lead elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import ModelConfig
from schemas.errors import ModelSourceError
from tasks.models.source import load_model, load_tokenizer, model_fingerprint
from tests.support.toy import make_toy_model


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "toy"))


def config_of(folder: Path) -> ModelConfig:
    return ModelConfig(source=str(folder))


class RunsCode:
    """Makes a file when it is read from a pickle."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def change_json(path: Path, **values: Any) -> None:
    """Change settings in a file, which may be missing."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(found | values), encoding="utf-8")


def pickle_weights(folder: Path, name: str) -> None:
    """Put a pickle that runs code in the place of the weights."""
    import torch

    (folder / "model.safetensors").unlink()
    torch.save({"weight": RunsCode(folder.parent / "ran")}, folder / name)


def split_weights(folder: Path, name: str) -> None:
    """Let an index, next to a file that looks harmless, name the file of the weights."""
    (folder / "model.safetensors").rename(folder / "decoy.safetensors")
    weights = {"weight_map": {"lm_head.weight": name}, "metadata": {}}
    change_json(folder / "model.safetensors.index.json", **weights)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.ckpt", "consolidated.pth"]
)
@pytest.mark.parametrize("is_indexed", [False, True])
def test_pickled_weights_are_refused_and_run_no_code(
    folder: Path, name: str, is_indexed: bool
) -> None:
    pickle_weights(folder, name)
    if is_indexed:
        (folder / "model.safetensors").touch()
        split_weights(folder, name)
    with pytest.raises(ModelSourceError, match=r"names a file|pickled"):
        load_model(config_of(folder))
    assert not (folder.parent / "ran").exists()


def test_pickled_weights_that_are_allowed_are_told_and_run_no_code_either(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pickle_weights(folder, "pytorch_model.bin")
    with pytest.raises(ModelSourceError, match="cannot be loaded") as caught:
        load_model(ModelConfig(source=str(folder), allow_pickle=True))
    assert "UnpicklingError" in caught.value.got
    assert "allow_pickle is on" in caplog.text
    assert not (folder.parent / "ran").exists()


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/tmp/model.safetensors"])
def test_index_of_weights_leads_to_no_file_outside(folder: Path, name: str) -> None:
    split_weights(folder, name)
    with pytest.raises(ModelSourceError, match="names a file that is not loaded") as caught:
        load_model(config_of(folder))
    assert caught.value.got == name


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({mark!r}).touch()
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""
CLASSES = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}


def add_code(folder: Path) -> Path:
    mark = folder.parent / "ran"
    (folder / "own.py").write_text(CODE.format(mark=str(mark)), encoding="utf-8")
    return mark


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("config.json", {"auto_map": CLASSES, "model_type": "own"}),
        ("config.json", {"text_config": {"auto_map": CLASSES, "model_type": "own"}}),
        ("config.json", {"auto_map": {"AutoConfig": "other/repository--own.OwnConfig"}}),
        ("config.json", {"_attn_implementation": "other/kernel"}),
        ("config.json", {"text_config": {"attn_implementation": {"": "other/kernel@main"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.OwnModel", None]}}),
        ("tokenizer_config.json", {"auto_map": ["own.OwnModel", "own.OwnModel"]}),
    ],
)
def test_code_that_settings_name_is_refused_and_does_not_run(
    folder: Path, name: str, settings: dict[str, Any]
) -> None:
    mark = add_code(folder)
    change_json(folder / name, **settings)
    with pytest.raises(ModelSourceError, match="contains Python code") as caught:
        load_model(config_of(folder))
    assert name in caught.value.where
    assert "trust_remote_code" in caught.value.fix
    assert not mark.exists()


def test_code_that_is_allowed_runs_and_is_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mark = add_code(folder)
    change_json(folder / "config.json", auto_map=CLASSES, model_type="own")
    model, _ = load_model(ModelConfig(source=str(folder), trust_remote_code=True))
    assert type(model).__name__ == "OwnModel"
    assert mark.exists()
    assert "runs with your rights" in caplog.text
    assert "own.OwnModel" in caplog.text


def test_adapter_next_to_a_model_is_refused_since_it_names_another(folder: Path) -> None:
    change_json(folder / "adapter_config.json", base_model_name_or_path="other/model", r=2)
    with pytest.raises(ModelSourceError, match="has an adapter") as caught:
        load_model(config_of(folder))
    assert "merge_and_unload" in caught.value.fix


@pytest.mark.parametrize("name", ["LICENSE", "config.json", "model.safetensors", "more/a.json"])
def test_link_out_of_a_model_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("{}", encoding="utf-8")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    for read in (model_fingerprint, load_model):
        with pytest.raises(ModelSourceError, match="a link to a file outside") as caught:
            read(config_of(folder))
    assert caught.value.where == str(path)


@pytest.mark.parametrize("name", ["model-2.safetensors", "chat_template.jinja", "more/a.json"])
def test_pipe_in_a_model_folder_is_refused_instead_of_read_for_ever(
    folder: Path, name: str
) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    for read in (model_fingerprint, load_model):
        with pytest.raises(ModelSourceError, match="an entry that is no file") as caught:
            read(config_of(folder))
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("name", "key", "other"),
    [
        ("config.json", "configuration_files", "config.4.0.0.json"),
        ("tokenizer_config.json", "fast_tokenizer_files", "tokenizer.4.0.0.json"),
    ],
)
@pytest.mark.parametrize("is_outside", [False, True])
def test_settings_lead_to_no_others_that_nobody_looked_at(
    folder: Path, name: str, key: str, other: str, is_outside: bool
) -> None:
    path = (folder.parent if is_outside else folder) / other
    shutil.copy(folder / other.replace(".4.0.0", ""), path)
    change_json(folder / name, **{key: [str(path) if is_outside else other]})
    with pytest.raises(ModelSourceError, match="name other files") as caught:
        load_model(config_of(folder))
    assert key in caught.value.where


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_tokenizer_alone_brings_no_code_either(folder: Path, name: str) -> None:
    mark = add_code(folder)
    change_json(folder / name, auto_map={"AutoTokenizer": ["own.OwnModel", None]})
    with pytest.raises(ModelSourceError, match="contains Python code"):
        load_tokenizer(str(folder))
    (folder / name).unlink()
    (folder / name).symlink_to(mark)
    with pytest.raises(ModelSourceError, match="a link to a file outside"):
        load_tokenizer(str(folder))
    assert not mark.exists()


def test_links_within_a_model_and_of_the_hubs_cache_are_read(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "commit"
    blobs = tmp_path / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", path.name))
    (snapshot / "same.json").symlink_to("config.json")
    linked = tmp_path / "linked"
    linked.symlink_to(snapshot)
    assert load_model(config_of(linked))[1].eos_token == "<|im_end|>"


@pytest.mark.parametrize(
    "text", ["[]", '"text"', "[" * 100_000, "\xff", '{"hidden_size": -1}', '{"text_config": []}']
)
def test_settings_that_no_model_has_are_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelSourceError, match="cannot be loaded"):
        load_model(config_of(folder))


def test_settings_with_more_layers_than_weights_are_refused_before_they_are_built(
    folder: Path,
) -> None:
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"num_hidden_layers": 10**9}), encoding="utf-8")
    with pytest.raises(ModelSourceError, match="more layers than there are weights") as found:
        load_model(ModelConfig(source=str(folder)))
    assert found.value.got == "1,000,000,000"


def test_settings_without_end_are_refused_unread(folder: Path) -> None:
    os.truncate(folder / "config.json", 1 << 40)
    with pytest.raises(ModelSourceError, match="cannot be loaded") as found:
        load_model(ModelConfig(source=str(folder)))
    assert "more than 16 MiB" in found.value.got
