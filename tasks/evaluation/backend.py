"""Generate answers with transformers, or with vLLM where it is installed with a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.config.evaluation import Backend
from schemas.errors import ConfigError

GPU_MEMORY_FRACTION = 0.8
"""Share of the GPU's memory; the rest is left to other processes."""


def choose_backend(wish: Backend) -> Backend:
    """Choose what generates the answers.

    Args:
        wish: auto takes vLLM where it is installed and there is a CUDA GPU.

    Returns:
        transformers or vllm.

    Raises:
        ConfigError: vLLM is configured and cannot run here.
    """
    if wish is Backend.TRANSFORMERS:
        return wish
    is_installed = importlib.util.find_spec("vllm") is not None
    if is_installed and _has_gpu():  # torch is loaded only where the choice depends on it
        return Backend.VLLM
    if wish is Backend.VLLM:
        raise ConfigError(
            "vLLM cannot generate the answers here",
            where="evaluation.backend=vllm",
            expected="the package vllm and a CUDA GPU",
            got="no GPU that torch can use" if is_installed else "the package is not installed",
            fix="pip install vllm on a machine with a GPU, or set evaluation.backend=auto",
        )
    return Backend.TRANSFORMERS


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def engine_arguments(
    model: Path, tokenizer: Path, *, longest_tokens: int, seed: int
) -> dict[str, Any]:
    """Return the arguments of `vllm.LLM`; `longest_tokens`: longest prompt with its answer."""
    return {
        "model": str(model),
        "tokenizer": str(tokenizer),
        "dtype": "auto",
        "seed": seed,
        "max_model_len": longest_tokens,
        "gpu_memory_utilization": GPU_MEMORY_FRACTION,
    }


def sampling_arguments(
    *, max_new_tokens: int, stops: frozenset[int], repetition_penalty: float
) -> dict[str, Any]:
    """Return the arguments of `vllm.SamplingParams` for greedy decoding as `generate` does it."""
    return {
        "temperature": 0.0,
        "max_tokens": max_new_tokens,
        "stop_token_ids": sorted(stops),
        "repetition_penalty": repetition_penalty,
        "detokenize": False,
    }


def generate_with_vllm(
    prompts: Sequence[list[int]], engine: dict[str, Any], sampling: dict[str, Any]
) -> list[list[int]]:
    """Answer prompts with vLLM, which batches and sorts by itself.

    Args:
        prompts: Token ids of each prompt.
        engine: From `engine_arguments`.
        sampling: From `sampling_arguments`.

    Returns:
        The token ids of each answer; a stop token ends it where the model produced one.

    Source:
        https://docs.vllm.ai/en/v0.11.0/api/vllm/index.html (`LLM.generate`).
    """
    from vllm import LLM, SamplingParams

    outputs = LLM(**engine).generate(
        [{"prompt_token_ids": ids} for ids in prompts],
        SamplingParams(**sampling),
        use_tqdm=False,
    )
    return [list(output.outputs[0].token_ids) for output in outputs]
