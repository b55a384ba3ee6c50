"""Models in a .gguf file: a tiny one made here, and the bundled one where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from schemas.config.run import ModelConfig
from schemas.errors import ModelSourceError
from tasks.models.bundled import bundled_file
from tasks.models.gguf import (
    count_gguf_parameters,
    load_gguf,
    load_gguf_tokenizer,
    read_tokenizer_facts,
)
from tasks.models.source import load_model
from tests.support.parts import BUNDLED_MODEL
from tests.support.toy import TOY_TEMPLATE

WIDTH, INNER = 32, 64
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_gguf(path: Path) -> Path:
    """Write a one-layer Llama whose tokenizer knows single bytes and the ChatML tokens."""
    from gguf import GGUFWriter, TokenType
    from tokenizers import pre_tokenizers

    tokens = SPECIAL + sorted(pre_tokenizers.ByteLevel.alphabet()) + ["ab", "cd"]
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    kinds = [TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(tokens) - 3)
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TOY_TEMPLATE)
    generator = np.random.default_rng(0)
    for name, shape in tensor_shapes(len(tokens)).items():
        writer.add_tensor(name, generator.normal(0, 0.02, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensor_shapes(n_tokens: int) -> dict[str, tuple[int, ...]]:
    square = {f"blk.0.attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
    return {
        "token_embd.weight": (n_tokens, WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.ffn_norm.weight": (WIDTH,),
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
        **square,
    }


def test_gguf_model_loads_in_floats_and_can_be_saved(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model, tokenizer = load_gguf(make_gguf(tmp_path / "toy.gguf"))
    assert model.dtype == torch.float32
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    ids = tokenizer("abc", return_tensors="pt").input_ids
    assert torch.equal(model(ids).logits, again(ids).logits)


def test_gguf_tokenizer_ends_texts_as_the_file_says(tmp_path: Path) -> None:
    _, tokenizer = load_gguf(make_gguf(tmp_path / "toy.gguf"))
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.model_max_length == 128
    assert tokenizer.chat_template == TOY_TEMPLATE


def test_gguf_tokenizer_gives_texts_back_unchanged(tmp_path: Path) -> None:
    _, tokenizer = load_gguf(make_gguf(tmp_path / "toy.gguf"))
    text = "Ärende ▁ 12 , nej !\n  34"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_gguf_tokenizer_is_the_same_without_the_weights(tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "toy.gguf")
    model, expected = load_gguf(path)
    tokenizer, config = load_gguf_tokenizer(path)
    assert tokenizer.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    assert tokenizer.special_tokens_map == expected.special_tokens_map
    assert config.vocab_size == model.config.vocab_size


def test_read_tokenizer_facts_takes_what_the_file_has(tmp_path: Path) -> None:
    assert read_tokenizer_facts(make_gguf(tmp_path / "toy.gguf")) == {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "padding_token_id": 2,
        "model": "gpt2",
        "pre": "smollm",
    }


def test_gguf_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gguf

    read = []

    class Counted(gguf.GGUFReader):  # type: ignore[misc]
        def __init__(self, path: str) -> None:
            super().__init__(path)
            read.append(type(self.data))

    monkeypatch.setattr(gguf, "GGUFReader", Counted)
    make_names = gguf.get_tensor_name_map
    load_gguf(make_gguf(tmp_path / "toy.gguf"))
    assert read == [np.ndarray]  # no memory map, whose slices are slow
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == (Counted, make_names)


def test_damaged_gguf_is_one_clear_error(tmp_path: Path) -> None:
    whole = make_gguf(tmp_path / "toy.gguf").read_bytes()
    for name, content in {"text": b"not a model", "half": whole[: len(whole) // 2]}.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        with pytest.raises(ModelSourceError, match=r"\.gguf file cannot be read") as caught:
            load_model(ModelConfig(source=str(path)))
        assert caught.value.where == str(path)
        with pytest.raises(ModelSourceError, match=r"\.gguf file cannot be read"):
            count_gguf_parameters(path)


@pytest.mark.slow
@BUNDLED_MODEL.mark
def test_bundled_tokenizer_parts_digits_as_smollm2_does() -> None:
    _, tokenizer = load_gguf(bundled_file())
    # Two blanks before a number stay one token, since digits are parted first.
    assert tokenizer.convert_ids_to_tokens(tokenizer("m  12").input_ids) == ["m", "ĠĠ", "1", "2"]
    assert tokenizer.eos_token_id == 2


def test_files_next_to_a_gguf_file_are_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers would load the adapter's base, ask whether to run the code, and take the template."""
    make_gguf(tmp_path / "model.gguf")
    neighbours = {
        "adapter_config.json": {"base_model_name_or_path": "other/model", "peft_type": "LORA"},
        "config.json": {"auto_map": {"AutoConfig": "own.Own"}, "model_type": "own"},
        "generation_config.json": {"max_new_tokens": 1},
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["own.Own", None]}},
    }
    for name, settings in neighbours.items():
        (tmp_path / name).write_text(json.dumps(settings), encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text("another", encoding="utf-8")
    (tmp_path / "own.py").write_text("raise SystemExit", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    model, tokenizer = load_gguf(Path("model.gguf"))
    light, _ = load_gguf_tokenizer(Path("model.gguf"))
    assert tokenizer.chat_template == light.chat_template == TOY_TEMPLATE
    assert model.generation_config.max_new_tokens is None
