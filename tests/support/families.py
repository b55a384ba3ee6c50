"""Tiny random models of many families, made from their configurations, and trainings of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers.processors import TemplateProcessing

from tests.support.shipped_templates import shipped_templates
from tests.support.toy import make_toy_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tasks.training.plan.choices import Packing
    from tasks.training.process.spec import TrainingSpec

VOCABULARY = 384
"""Room for the toy tokenizer and the tokens of a family's template."""
HEAD_SCALE = 20
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
POSITIONS = {"max_position_embeddings": 256}
GATED = {**COMMON, **POSITIONS, "intermediate_size": 64, "num_key_value_heads": 2}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
GPT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
MAMBA = {"mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2}
HYBRID = {"layer_types": ["linear_attention", "full_attention"], "head_dim": 8}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", GATED),
    "llama2": ("LlamaConfig", {**GATED, "num_key_value_heads": 4}),
    "mistral": ("MistralConfig", GATED),
    "mixtral": ("MixtralConfig", {**GATED, "num_local_experts": 4}),
    "qwen2": ("Qwen2Config", GATED),
    "qwen3": ("Qwen3Config", {**GATED, "head_dim": 8}),
    "qwen3_moe": ("Qwen3MoeConfig", {**GATED, **EXPERTS, "head_dim": 8, "num_experts": 4}),
    "qwen3_5": ("Qwen3_5TextConfig", {**GATED, **HYBRID, **LINEAR}),
    "gemma2": ("Gemma2Config", {**GATED, "head_dim": 8}),
    "gemma3_text": ("Gemma3TextConfig", {**GATED, "head_dim": 8}),
    "gemma3": (
        "Gemma3Config",
        {
            "text_config": {**GATED, "head_dim": 8},
            "vision_config": VISION,
            "mm_tokens_per_image": 4,
            "image_token_index": 380,
            "boi_token_index": 381,
            "eoi_token_index": 382,
        },
    ),
    "phi3": ("Phi3Config", GATED),
    "falcon": (
        "FalconConfig",
        {**COMMON, "alibi": False, "new_decoder_architecture": False, "ffn_hidden_size": 64},
    ),
    "opt": ("OPTConfig", {**COMMON, **POSITIONS, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "gpt2": ("GPT2Config", GPT),
    "gpt_neox": ("GPTNeoXConfig", {**COMMON, **POSITIONS, "intermediate_size": 64}),
    "olmo": ("OlmoConfig", GATED),
    "cohere": ("CohereConfig", {**GATED, "logit_scale": 1.0}),
    "bamba": (
        "BambaConfig",
        {**GATED, **MAMBA, "mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1]},
    ),
    "mamba": ("MambaConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}),
    "gpt_oss": (
        "GptOssConfig",
        {**GATED, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "smollm3": ("SmolLM3Config", GATED),
    "glm4": ("Glm4Config", {**GATED, "head_dim": 8}),
    "glm4_moe": (
        "Glm4MoeConfig",
        {**GATED, **EXPERTS, "head_dim": 8, "n_routed_experts": 4, "first_k_dense_replace": 1},
    ),
}
"""Class and arguments of a configuration, by the name of the family."""
TEMPLATES = {
    "llama": "llama3_2",
    "qwen2": "qwen2_5",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3_instruct_2507",
    "qwen3_5": "qwen3_5_nothink",
    "gemma2": "gemma",
    "gemma3_text": "gemma3",
    "gemma3": "gemma3",
    "phi3": "phi3",
    "cohere": "cohere",
    "glm4_moe": "glm4moe",
    "gpt_oss": "gptoss",
}
"""The template of TRL that a family was published with, where there is one."""
_MARKER = re.compile(r"<\|?[a-z_]+\|?>|<\|[A-Z_]+\|>")


def make_family(name: str, *, is_tied: bool = False, seed: int = 0) -> PreTrainedModel:
    """Make a tiny random model of a family; its vocabulary has room for the toy tokenizer."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    class_name, arguments = FAMILIES[name]
    special = {"bos_token_id": None, "eos_token_id": 256, "pad_token_id": None}
    config = getattr(transformers, class_name)(**arguments, **special, tie_word_embeddings=is_tied)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    # At their small random start, the logits of a frozen head could not differ enough.
    model.get_output_embeddings().weight.data *= HEAD_SCALE
    return model


def family_tokenizer(template: str = "", *, has_bos: bool = False) -> PreTrainedTokenizerFast:
    """Make a toy tokenizer, with one of TRL's templates and the tokens that it writes.

    Args:
        template: Its name; none without one.
        has_bos: Whether the tokenizer begins every text with a BOS token.
    """
    tokenizer = make_toy_tokenizer(has_template=False)
    if has_bos:
        tokenizer.add_special_tokens({"bos_token": "<s>"})
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    if template:
        tokenizer.chat_template = shipped_templates()[template]
        markers = sorted(set(_MARKER.findall(tokenizer.chat_template)))
        tokenizer.add_special_tokens({"additional_special_tokens": markers})
        tokenizer.add_special_tokens({"bos_token": "<s>", "pad_token": "<pad>"})
    return tokenizer


def family_spec(
    root: Path,
    name: str,
    *,
    is_tied: bool = False,
    template: str = "",
    has_bos: bool = False,
    dtype: str = "float32",
    answers: tuple[str, ...] = ("Red.", "A green roof.", "Blue, and grey."),
    **training: object,
) -> TrainingSpec:
    """Prepare a base model of a family as the flow does, and a training of some rows.

    Args:
        root: Gets the models and the rows.
        name: Of the family.
        is_tied: Whether embeddings and head are one.
        template: Name of a template of TRL; without one, the flow sets up ChatML.
        has_bos: Whether the tokenizer begins every text with a BOS token.
        dtype: Number format of the checkpoint, a name of torch.
        answers: One row each.
        **training: Settings that differ from the usual ones.

    Returns:
        What the training process reads.
    """
    import pyarrow
    import pyarrow.parquet as parquet
    import torch

    from schemas.config.run import ModelConfig, TemplateConfig
    from schemas.config.training import TrainingConfig
    from schemas.rows.row import Conversation, RowFormat
    from tasks.prepare_template import prepare_model
    from tasks.tokens.rendering import load_renderer, render_rows
    from tasks.training.plan.machine import examine_machine
    from tasks.training.plan.setup import prepare_training
    from tasks.training.process.spec import TrainingSpec

    model = make_family(name, is_tied=is_tied).to(getattr(torch, dtype))
    model.save_pretrained(root / "base")
    (root / "base" / "generation_config.json").write_text('{"temperature": 0.6, "top_p": 0.9}')
    family_tokenizer(template, has_bos=has_bos).save_pretrained(root / "base")
    prepare_model(root, ModelConfig(source=str(root / "base")), TemplateConfig(), 0)
    renderer = load_renderer(root / "model", root / "training_template.jinja")
    turns = [
        [{"role": "user", "content": f"Item {row}?"}, {"role": "assistant", "content": answer}]
        for row, answer in enumerate(answers)
    ]
    chats = [Conversation("a.jsonl", n, RowFormat.MESSAGES, each) for n, each in enumerate(turns)]
    rows = [
        {"row": number, "input_ids": row.input_ids, "labels": row.labels}
        for number, (_, row) in enumerate(render_rows(renderer, chats))
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "tokens.parquet")
    settings = {"max_steps": 2, "learning_rate": 0.01, "packing_length_tokens": 128}
    config = TrainingConfig.model_validate(settings | training)
    setup = prepare_training(config, examine_machine(config.device), None, None)
    return TrainingSpec(
        model=root / "model",
        train_tokens=root / "tokens.parquet",
        output=root / "output",
        checkpoints=root / "checkpoints",
        fingerprint={"name": name},
        training=config,
        choices=setup.choices,
        batching=setup.batching,
        seed=3,
    )


def with_packing(spec: TrainingSpec, packing: Packing) -> TrainingSpec:
    """Choose a packing, also one that is for another device."""
    choices = spec.choices.model_copy(update={"packing": packing})
    return spec.model_copy(update={"choices": choices})


def row_states(trainer: Any) -> list[torch.Tensor]:
    """States of each row in the trainer's own batches, in the order of their tokens."""
    import torch

    model, found = _without_adapters(trainer), []
    for batch in trainer.get_train_dataloader():
        inputs = {name: each for name, each in batch.items() if name != "labels"}
        with torch.no_grad():
            states = model.base_model(**inputs, use_cache=False).last_hidden_state
        if "row_lengths" in batch:
            n_prefix, *lengths = batch["row_lengths"]
            shared, *rests = states[0].split([n_prefix, *lengths])
            found += [torch.cat((shared, rest)) for rest in rests]
        elif "position_ids" in batch:
            starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
            ends = [*starts[1:], states.shape[1]]
            found += [states[0, start:end] for start, end in zip(starts, ends, strict=True)]
        else:
            lengths = batch["attention_mask"].sum(1).tolist()
            found += [each[:length] for each, length in zip(states, lengths, strict=True)]
    return found


def states_alone(trainer: Any, spec: TrainingSpec) -> list[torch.Tensor]:
    """States of each row by itself."""
    import pyarrow.parquet as parquet
    import torch

    model = _without_adapters(trainer)
    with torch.no_grad():
        return [
            model.base_model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
            for ids in parquet.read_table(spec.train_tokens)["input_ids"].to_pylist()
        ]


def _without_adapters(trainer: Any) -> Any:
    model = trainer.model.eval()
    return model.get_base_model() if hasattr(model, "peft_config") else model
