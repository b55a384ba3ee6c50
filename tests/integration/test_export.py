"""Exporting a registered toy model, and serving it over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import flows.cli.export as command
from flows.cli.main import main
from schemas.errors import ConfigError, RegistryError
from tasks.engine.jsonl import read_jsonl
from tasks.engine.local_server import free_port
from tasks.models.bundled import bundled_file
from tasks.models.gguf import load_gguf_tokenizer
from tasks.models.prepared import PreparedFacts, write_facts
from tasks.registry.store import connect
from tasks.release.export import (
    check_target,
    export_version,
    find_converter,
    push_to_hub,
    read_address,
    write_gguf,
)
from tests.support.evidence import make_evidence, register
from tests.support.parts import BUNDLED_MODEL, OPTIONAL, Part

pytestmark = pytest.mark.integration

START_SECONDS = 180


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_db: Path) -> Path:
    """A store with one registered toy model, champion of its name."""
    home = tmp_path_factory.mktemp("export")
    shutil.copy(empty_mlflow_db, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFT_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        evidence = make_evidence(home)
        add_adapter(home / "stages" / "train_model" / "k0")
        reference = register(evidence)
        connect().set_registered_model_alias("toy", "champion", str(reference.version))
    return home


def add_adapter(trained: Path) -> None:
    """Write what PEFT leaves beside a merged model, which names the base model's folder."""
    (trained / "adapter").mkdir()
    settings = {"base_model_name_or_path": str(trained / "base"), "r": 8}
    (trained / "adapter" / "adapter_config.json").write_text(json.dumps(settings), "utf-8")
    (trained / "adapter" / "README.md").write_text(f"base_model: {trained}/base", "utf-8")


@pytest.fixture
def home(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFT_HOME", str(store))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(command, "quiet_libraries", lambda: None)
    connect()
    return store


def answer(folder: Path, prompt: str, n_tokens: int) -> str:
    """Let transformers answer from a folder, as a reader of the model card would."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    messages = [{"role": "user", "content": prompt}]
    asked = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**asked, max_new_tokens=n_tokens, do_sample=False)
    return str(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("toy", "models:/toy@champion"),
        ("toy@previous", "models:/toy@previous"),
        ("toy/3", "models:/toy/3"),
        ("models:/toy/3", "models:/toy/3"),
        ("models:/toy", "models:/toy@champion"),
    ],
)
def test_read_address(text: str, address: str) -> None:
    assert read_address(text) == address


def test_exported_folder_loads_and_answers_as_judged(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = CliRunner().invoke(main, ["export", "toy", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["version"] == 1
    names = {path.name for path in folder.iterdir()}
    wanted = {"config.json", "generation_config.json", "tokenizer.json", "README.md"}
    assert wanted | {"model.safetensors", "sft_flow.json"} <= names
    judged = read_jsonl(home / "stages" / "evaluate_model" / "k0" / "answers.jsonl")[0]
    question = judged["prompt"].split("\n", 1)[1].split("<|im_end|>")[0]
    assert answer(folder, question, 8).strip() == judged["answer"]
    lineage = json.loads((folder / "sft_flow.json").read_text(encoding="utf-8"))
    assert lineage["tags"]["sft.dataset_sha256"] == "d" * 64
    settings = json.loads((folder / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert settings == {"base_model_name_or_path": "", "r": 8}
    assert naming(home, folder) == []


def test_registered_files_name_no_path_of_this_machine(home: Path) -> None:
    models = home / "artifacts" / "models"
    assert [path.name for path in models.rglob("MLmodel")] == ["MLmodel"]
    assert naming(home, home / "artifacts") == []


def naming(home: Path, folder: Path) -> list[Path]:
    """List the files, binary ones too, in which the work directory stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if str(home).encode() in path.read_bytes()]


def test_export_never_writes_over_what_is_not_an_export(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years", encoding="utf-8")
    for is_overwriting in (False, True):
        with pytest.raises(RegistryError, match="not empty"):
            export_version("models:/toy@champion", mine, is_overwriting=is_overwriting)
    assert (mine / "thesis.txt").read_text(encoding="utf-8") == "years"
    write_facts(mine, PreparedFacts())  # as beside every trained model, in a file of that name
    with pytest.raises(RegistryError, match="not empty"):
        export_version("models:/toy@champion", mine, is_overwriting=True)
    assert (mine / "thesis.txt").read_text(encoding="utf-8") == "years"
    folder = tmp_path / "out"
    export_version("models:/toy@champion", folder, is_overwriting=False)
    with pytest.raises(RegistryError, match="--overwrite"):
        check_target(folder, is_overwriting=False)
    export_version("models:/toy/1", folder, is_overwriting=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_unknown_version_exits_2(home: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["export", "toy@previous", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_gguf_needs_llama_cpp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMA_CPP_HOME", raising=False)
    with pytest.raises(ConfigError, match="GGUF needs"):
        find_converter()


def test_gguf_is_written_by_the_users_converter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The converter is a stand-in that keeps its arguments."""
    program = "import sys; open(sys.argv[3], 'w').write(' '.join(sys.argv[1:]))"
    (tmp_path / "convert_hf_to_gguf.py").write_text(program, encoding="utf-8")
    monkeypatch.setenv("LLAMA_CPP_HOME", str(tmp_path))
    written = write_gguf(tmp_path, find_converter())
    assert written.read_text(encoding="utf-8") == f"{tmp_path} --outfile {written}"
    (tmp_path / "convert_hf_to_gguf.py").write_text("raise SystemExit('no such architecture')")
    with pytest.raises(ConfigError, match="no such architecture"):
        write_gguf(tmp_path, find_converter())


def has_converter() -> bool:
    try:
        return find_converter().is_file()
    except ConfigError:
        return False


@pytest.mark.slow
@Part("llama.cpp", f"{OPTIONAL}docs/serving.md", has_converter()).mark
@BUNDLED_MODEL.mark
def test_gguf_of_the_real_converter_holds_model_and_tokenizer(tmp_path: Path) -> None:
    """With SmolLM2's tokenizer: llama.cpp takes only vocabularies that it knows by their hash."""
    from gguf import GGUFReader
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer, _ = load_gguf_tokenizer(bundled_file())
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=len(tokenizer), num_attention_heads=4, **sizes)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    written = GGUFReader(str(write_gguf(tmp_path, find_converter())))
    facts = {name: field.contents() for name, field in written.fields.items()}
    assert facts["general.architecture"] == "llama"
    assert facts["llama.embedding_length"] == 32
    assert facts["tokenizer.ggml.pre"] == "smollm"
    assert facts["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert facts["tokenizer.chat_template"] == tokenizer.chat_template
    assert "blk.0.ffn_up.weight" in {tensor.name for tensor in written.tensors}


def test_push_needs_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="needs a token"):
        push_to_hub(tmp_path, "owner/name", is_public=False)


def test_served_model_answers_over_http_as_it_was_judged(home: Path, tmp_path: Path) -> None:
    """`mlflow models serve` gives the judged answer, unless a request asks for another way."""
    judged = read_jsonl(home / "stages" / "evaluate_model" / "k0" / "answers.jsonl")[0]
    question = judged["prompt"].split("\n", 1)[1].split("<|im_end|>")[0]
    port = free_port()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    command_line = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/toy@champion"),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    bin_folder = str(Path(sys.executable).parent)
    environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
    with (tmp_path / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            command_line, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, tmp_path / "serve.log")
        asked = {"messages": [{"role": "user", "content": question}]}
        address = f"http://127.0.0.1:{port}/invocations"
        reply = post(address, asked)
        short = post(address, {**asked, "max_tokens": 2})
        drawn = [post(address, {**asked, "temperature": 2.0}) for _ in range(3)]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert said(reply) == judged["answer"] != ""
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["model"] == "models:/toy"
    assert len(said(short)) < len(said(reply))
    assert len({said(one) for one in drawn}) > 1


def said(reply: dict[str, Any]) -> str:
    return str(reply["choices"][0]["message"]["content"]).strip()


def post(address: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        address, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answered:
        found = json.load(answered)
    return found[0] if isinstance(found, list) else found


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(log.read_text(encoding="utf-8")[-3000:])
