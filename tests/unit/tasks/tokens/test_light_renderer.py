from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from schemas.config.run import ModelConfig, RunConfig, TemplateConfig, TemplateKind
from schemas.errors import ModelSourceError
from schemas.rows.row import Conversation, RowFormat
from tasks.prepare_template import prepare_model
from tasks.tokens.light_renderer import load_check_renderer
from tasks.tokens.rendering import load_renderer, render_row
from tests.support.toy import make_toy_model

TURNS = [{"role": "user", "content": "How tall?"}, {"role": "assistant", "content": "Two metres."}]
CHAT = Conversation("a.jsonl", 1, RowFormat.MESSAGES, TURNS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_toy_model(folder / "chat")
    make_toy_model(folder / "base", has_template=False)
    return folder


@pytest.mark.parametrize("name", ["chat", "base"])
@pytest.mark.parametrize("kind", [TemplateKind.AUTO, TemplateKind.CHATML, TemplateKind.CLONE])
def test_renderer_is_the_one_that_a_run_prepares(
    models: Path, tmp_path: Path, name: str, kind: TemplateKind
) -> None:
    clone_from = str(models / "chat") if kind == TemplateKind.CLONE else None
    config = RunConfig(
        model=ModelConfig(source=str(models / name)),
        template=TemplateConfig(kind=kind, clone_from=clone_from),
    )
    prepare_model(tmp_path, config.model, config.template, seed=0)
    expected = load_renderer(tmp_path / "model", tmp_path / "training_template.jinja")
    found = load_check_renderer(config)
    assert found.training_template == expected.training_template
    assert found.stop_ids == expected.stop_ids
    assert found.tokenizer.chat_template == expected.tokenizer.chat_template
    assert found.tokenizer.get_vocab() == expected.tokenizer.get_vocab()
    row = render_row(found, CHAT)
    assert row == render_row(expected, CHAT)
    assert row.n_supervised_tokens == len("Two metres.") + 1  # one token a byte, and the stop


def test_no_weights_are_read(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "chat", folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    found = load_check_renderer(RunConfig(model=ModelConfig(source=str(folder))))
    assert render_row(found, CHAT).n_supervised_tokens > 0


def test_model_without_generation_settings_stops_at_its_configured_token(
    models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "chat", folder)
    (folder / "generation_config.json").unlink()
    found = load_check_renderer(RunConfig(model=ModelConfig(source=str(folder))))
    assert found.stop_ids == {found.tokenizer.convert_tokens_to_ids("<|im_end|>")}


def test_damaged_model_is_named(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "chat", folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelSourceError):
        load_check_renderer(RunConfig(model=ModelConfig(source=str(folder))))
