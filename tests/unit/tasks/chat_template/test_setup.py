"""What is set up on a model: tokens, embeddings, stop and pad token, generation settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import ModelConfig, TemplateConfig
from schemas.errors import ModelSourceError, ServiceUnreachable, TemplateError
from schemas.rows.row import Conversation, RowFormat
from tasks.chat_template.setup import (
    PreparedTemplate,
    TemplateOrigin,
    resize_embeddings,
    set_pad_token,
    set_up_template,
)
from tasks.chat_template.variants import read_template
from tasks.models.source import load_model
from tasks.tokens.rendering import Renderer, render_row
from tests.support.shipped_templates import shipped_templates
from tests.support.toy import TOY_TEMPLATE, add_beginning, make_toy_model


def load_toy(tmp_path: Path, *, has_template: bool) -> tuple[Any, Any]:
    folder = make_toy_model(tmp_path / f"toy-{has_template}", has_template=has_template)
    return load_model(ModelConfig(source=str(folder)))


def set_up(tmp_path: Path, has_template: bool, **config: str) -> tuple[Any, Any, PreparedTemplate]:
    model, tokenizer = load_toy(tmp_path, has_template=has_template)
    prepared = set_up_template(model, tokenizer, TemplateConfig.model_validate(config))
    return model, tokenizer, prepared


def test_base_model_gets_chatml_with_stop_and_pad(tmp_path: Path) -> None:
    model, tokenizer, prepared = set_up(tmp_path, False)
    assert tokenizer.chat_template == read_template("chatml")
    assert prepared.training_template == read_template("chatml_training")
    assert (prepared.origin, prepared.n_added_tokens) == (TemplateOrigin.CHATML, 2)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]) == [257, 258]
    for settings in (model.config, model.generation_config):
        assert (settings.eos_token_id, settings.pad_token_id) == (258, 256)


def test_new_embeddings_start_at_the_mean_of_the_old(tmp_path: Path) -> None:
    import torch

    before = load_toy(tmp_path, has_template=False)[0].get_input_embeddings().weight
    model, _, _ = set_up(tmp_path, False)
    after = model.get_input_embeddings().weight
    assert tuple(after.shape) == (320, 32)  # 259 tokens, rounded up to a multiple of 64
    assert torch.equal(after[:257], before)
    assert torch.allclose(after[257:], before.mean(dim=0).expand(63, 32), atol=1e-5)
    assert model.config.vocab_size == 320
    assert model.lm_head.weight.data_ptr() == after.data_ptr()


def test_new_token_in_a_spare_row_gets_the_mean_without_a_resize(tmp_path: Path) -> None:
    import torch

    model, tokenizer = load_toy(tmp_path, has_template=False)
    model.resize_token_embeddings(300, mean_resizing=False)
    used = model.get_input_embeddings().weight[:257].clone()
    tokenizer.add_tokens(["<|new|>"])
    resize_embeddings(model, tokenizer, [257])
    weight = model.get_input_embeddings().weight
    assert weight.shape[0] == 300
    assert torch.allclose(weight[257], used.mean(dim=0))
    assert torch.equal(weight[:257], used)


def test_model_with_a_template_keeps_template_and_size(tmp_path: Path) -> None:
    import torch

    before, _ = load_toy(tmp_path, has_template=True)
    model, tokenizer, prepared = set_up(tmp_path, True)
    assert tokenizer.chat_template == TOY_TEMPLATE
    assert (prepared.origin, prepared.n_added_tokens) == (TemplateOrigin.MODEL, 0)
    assert torch.equal(model.lm_head.weight, before.lm_head.weight)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_generation_stops_at_the_turn_end_and_where_it_stopped_before(tmp_path: Path) -> None:
    model, tokenizer = load_toy(tmp_path, has_template=True)
    end, text_end = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    tokenizer.eos_token = "<|endoftext|>"
    model.generation_config.eos_token_id = text_end
    set_up_template(model, tokenizer, TemplateConfig())
    assert model.generation_config.eos_token_id == [end, text_end]
    assert model.config.eos_token_id == end
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|pad|>"  # every other token already means something


def test_kind_chatml_replaces_a_models_own_template(tmp_path: Path) -> None:
    _, tokenizer, prepared = set_up(tmp_path, True, kind="chatml")
    assert tokenizer.chat_template == read_template("chatml")
    assert (prepared.origin, prepared.n_added_tokens) == (TemplateOrigin.CHATML, 0)


@pytest.mark.parametrize("name", ["chatml", "chatml_training"])
def test_kind_file_serves_with_and_without_markers(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{# mine #}" + read_template(name))
    _, tokenizer, prepared = set_up(tmp_path, False, kind="file", path=str(path))
    assert "{# mine #}" in tokenizer.chat_template
    assert "generation -%}" not in tokenizer.chat_template
    assert "generation -%}" in prepared.training_template
    assert (prepared.origin, prepared.n_added_tokens) == (TemplateOrigin.FILE, 2)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_unreadable_template_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TemplateError, match="cannot be read") as caught:
        set_up(tmp_path, True, kind="file", path=str(path))
    assert caught.value.where == f"template.path={path}"


def test_template_that_is_a_device_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="cannot be read") as caught:
        set_up(tmp_path, True, kind="file", path="/dev/zero")
    assert "a device, not a file" in caught.value.got


def test_users_training_template_that_breaks_the_contract_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{% generation %}" + TOY_TEMPLATE + "{% endgeneration %}")
    with pytest.raises(TemplateError, match="only_assistant_marked"):
        set_up(tmp_path, True, kind="file", path=str(path))


@pytest.mark.parametrize(
    "text", ["{% for m in messages %}{{ m.content }}{% endfor %}", "{% for m in messages %}"]
)
def test_template_without_a_sound_variant_names_every_breach(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(text)
    with pytest.raises(TemplateError, match="no training variant") as caught:
        set_up(tmp_path, True, kind="file", path=str(path))
    assert caught.value.got.startswith("derived: the chat template breaks rule ")
    assert "template.kind=file" in caught.value.fix


def test_kind_clone_takes_template_and_tokens_of_another_model(tmp_path: Path) -> None:
    source = make_toy_model(tmp_path / "source")
    model, tokenizer, prepared = set_up(tmp_path, False, kind="clone", clone_from=str(source))
    assert tokenizer.chat_template == TOY_TEMPLATE
    assert prepared.origin == TemplateOrigin.CLONE
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert prepared.n_added_tokens == 63  # both ChatML tokens, and TRL's filling up to 320
    assert len(tokenizer) == model.get_input_embeddings().weight.shape[0] == 320
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_clone_from_a_tokenizer_without_template_is_refused(tmp_path: Path) -> None:
    source = make_toy_model(tmp_path / "source", has_template=False)
    with pytest.raises(TemplateError, match="has no chat template"):
        set_up(tmp_path, True, kind="clone", clone_from=str(source))


def test_clone_from_a_tokenizer_with_code_is_refused_and_asks_nobody(tmp_path: Path) -> None:
    source = make_toy_model(tmp_path / "source")
    path = source / "tokenizer_config.json"
    code = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    path.write_text(json.dumps(json.loads(path.read_text()) | code), encoding="utf-8")
    (source / "own.py").write_text("raise SystemExit", encoding="utf-8")
    with pytest.raises(ModelSourceError, match="contains Python code"):
        set_up(tmp_path, True, kind="clone", clone_from=str(source))


def test_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    model, tokenizer = load_toy(tmp_path, has_template=True)
    tokenizer.chat_template = 5
    with pytest.raises(TemplateError, match="is no text"):
        set_up_template(model, tokenizer, TemplateConfig())


@pytest.mark.parametrize("name", ["acme/missing", "{tmp}"])
def test_clone_from_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises((ModelSourceError, ServiceUnreachable)) as caught:
        set_up(tmp_path, True, kind="clone", clone_from=name.format(tmp=tmp_path))
    assert caught.value.fix


def test_several_templates_need_a_default(tmp_path: Path) -> None:
    model, tokenizer = load_toy(tmp_path, has_template=True)
    tokenizer.chat_template = {"rag": TOY_TEMPLATE, "tool_use": TOY_TEMPLATE}
    with pytest.raises(TemplateError, match="none is the default") as caught:
        set_up_template(model, tokenizer, TemplateConfig())
    assert caught.value.got == "rag, tool_use"
    tokenizer.chat_template = {"default": TOY_TEMPLATE, "rag": "other"}
    set_up_template(model, tokenizer, TemplateConfig())
    assert tokenizer.chat_template == TOY_TEMPLATE


def test_set_pad_token_adds_one_when_none_is_free(tmp_path: Path) -> None:
    _, tokenizer = load_toy(tmp_path, has_template=True)
    ids = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    set_pad_token(tokenizer, None, ids)
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.pad_token_id == 259


@pytest.mark.parametrize("has_beginning", [True, False])
def test_chatml_begins_with_bos_where_the_tokenizer_does(
    tmp_path: Path, has_beginning: bool
) -> None:
    from transformers import AutoTokenizer

    folder = make_toy_model(tmp_path / "toy")
    if has_beginning:
        add_beginning(folder)
    else:  # knows a BOS token, but begins no text with it, as Qwen
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_special_tokens({"bos_token": "<|endoftext|>"})
        tokenizer.save_pretrained(folder)
    model, tokenizer = load_model(ModelConfig(source=str(folder)))
    prepared = set_up_template(model, tokenizer, TemplateConfig.model_validate({"kind": "chatml"}))
    assert prepared.training_template.endswith(read_template("chatml_training"))
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for template in (tokenizer.chat_template, prepared.training_template):
        text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
        assert text.startswith("<s><|im_start|>user" if has_beginning else "<|im_start|>user")
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == int(has_beginning)


def test_settings_reach_both_templates(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text("{{ mood }}" + read_template("chatml_training"), encoding="utf-8")
    model, tokenizer = load_toy(tmp_path, has_template=False)
    config = TemplateConfig.model_validate(
        {"kind": "file", "path": str(path), "kwargs": {"mood": "calm"}}
    )
    prepared = set_up_template(model, tokenizer, config)
    for template in (tokenizer.chat_template, prepared.training_template):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "a"}], chat_template=template, tokenize=False
        )
        assert text == "calm<|im_start|>user\na<|im_end|>\n"


def with_generation(tmp_path: Path, **settings: Any) -> tuple[Any, Any]:
    folder = make_toy_model(tmp_path / "toy")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings), encoding="utf-8")
    return load_model(ModelConfig(source=str(folder)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # As in the first files of Vicuna and Llama 2.
        ({"temperature": 0.9, "top_p": 0.6}, {"temperature": 0.9, "top_p": 0.6, "do_sample": True}),
        ({"do_sample": False, "top_k": 20}, {"top_k": 20, "do_sample": True}),
        ({"do_sample": True, "top_p": 0.9}, {"top_p": 0.9, "do_sample": True}),
        ({"length_penalty": 2.0}, {"length_penalty": None}),
        ({"early_stopping": True, "min_p": 0.1}, {"early_stopping": None, "min_p": 0.1}),
        ({"max_new_tokens": 7}, {"max_new_tokens": 7, "do_sample": None}),
    ],
)
def test_contradicting_settings_of_generation_are_settled_and_can_be_saved(
    tmp_path: Path, settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    model, tokenizer = with_generation(tmp_path, **settings)
    set_up_template(model, tokenizer, TemplateConfig())
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert {name: saved.get(name) for name in expected} == expected
    assert saved["eos_token_id"] == tokenizer.eos_token_id


def test_settings_of_generation_that_no_change_would_save_are_refused(tmp_path: Path) -> None:
    model, tokenizer = with_generation(tmp_path)
    model.generation_config.early_stopping = "sometimes"
    with pytest.raises(ModelSourceError, match="contradict") as caught:
        set_up_template(model, tokenizer, TemplateConfig())
    assert caught.value.where == "generation_config.json"
    assert "sometimes" in caught.value.got


@pytest.mark.parametrize("name", ["phi3", "phi3_5"])
def test_a_template_that_writes_the_eos_token_keeps_it(tmp_path: Path, name: str) -> None:
    model, tokenizer = load_toy(tmp_path, has_template=False)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]}
    )
    tokenizer.chat_template = shipped_templates()[name]
    prepared = set_up_template(model, tokenizer, TemplateConfig())
    assert (tokenizer.eos_token, prepared.stop_token) == ("<|endoftext|>", "<|end|>")
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert model.generation_config.eos_token_id == [end, tokenizer.eos_token_id]
    assert model.config.eos_token_id == end
    renderer = Renderer(tokenizer, prepared.training_template, frozenset([end, 256]))
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": 0},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    row = render_row(renderer, Conversation("a.jsonl", 1, RowFormat.MESSAGES, messages))
    assert tokenizer.decode(row.input_ids).endswith("<|end|>\n<|endoftext|>")
    assert [tokenizer.decode(row.input_ids[start:end]) for start, end in row.spans] == ["d<|end|>"]


def test_a_template_may_read_an_eos_token_that_is_not_set(tmp_path: Path) -> None:
    model, tokenizer = load_toy(tmp_path, has_template=True)
    tokenizer.chat_template = "{{ eos_token or '' }}" + tokenizer.chat_template
    tokenizer.eos_token = None
    prepared = set_up_template(model, tokenizer, TemplateConfig())
    assert prepared.stop_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
