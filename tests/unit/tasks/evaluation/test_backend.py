"""Which library generates the answers, and what it is told."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest

from schemas.config.evaluation import Backend
from schemas.errors import ConfigError
from tasks.evaluation.backend import (
    choose_backend,
    engine_arguments,
    generate_with_vllm,
    sampling_arguments,
)


class FakeEngine:
    """Stands in for the GPU library: notes its arguments and answers with the prompt reversed."""

    calls: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **arguments: Any) -> None:
        self.calls.append(arguments)

    def generate(self, prompts: Any, sampling: Any, use_tqdm: bool) -> list[Any]:
        self.calls.append({"prompts": prompts, "sampling": sampling, "use_tqdm": use_tqdm})
        return [
            types.SimpleNamespace(
                outputs=[types.SimpleNamespace(token_ids=tuple(prompt["prompt_token_ids"][::-1]))]
            )
            for prompt in prompts
        ]


def install_vllm(monkeypatch: pytest.MonkeyPatch, *, has_gpu: bool) -> None:
    """Make a module vllm importable, and say whether there is a GPU."""
    fake: Any = types.ModuleType("vllm")
    fake.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    fake.LLM, fake.SamplingParams = FakeEngine, dict
    FakeEngine.calls.clear()
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)


@pytest.mark.parametrize(
    ("wish", "has_gpu", "chosen"),
    [
        (Backend.AUTO, True, Backend.VLLM),
        (Backend.AUTO, False, Backend.TRANSFORMERS),
        (Backend.VLLM, True, Backend.VLLM),
        (Backend.TRANSFORMERS, True, Backend.TRANSFORMERS),
    ],
)
def test_choose_backend_where_vllm_is_installed(
    wish: Backend, has_gpu: bool, chosen: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_vllm(monkeypatch, has_gpu=has_gpu)
    assert choose_backend(wish) is chosen


def test_choose_backend_refuses_vllm_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(monkeypatch, has_gpu=False)
    with pytest.raises(ConfigError, match="no GPU that torch can use"):
        choose_backend(Backend.VLLM)


def test_choose_backend_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_backend(Backend.AUTO) is Backend.TRANSFORMERS
    with pytest.raises(ConfigError, match=r"the package is not installed(.|\n)*backend=auto"):
        choose_backend(Backend.VLLM)


def test_generate_with_vllm_is_greedy_on_token_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    install_vllm(monkeypatch, has_gpu=True)
    engine = engine_arguments(Path("m"), Path("t"), longest_tokens=70, seed=3)
    sampling = sampling_arguments(
        max_new_tokens=48, stops=frozenset([7, 2]), repetition_penalty=1.1
    )
    assert generate_with_vllm([[1, 2, 3], [4]], engine, sampling) == [[3, 2, 1], [4]]
    started, asked = FakeEngine.calls
    assert (started["model"], started["tokenizer"], started["seed"]) == ("m", "t", 3)
    assert started["max_model_len"] == 70
    assert asked["prompts"] == [{"prompt_token_ids": [1, 2, 3]}, {"prompt_token_ids": [4]}]
    assert asked["sampling"]["temperature"] == 0.0
    assert asked["sampling"]["stop_token_ids"] == [2, 7]
    assert asked["sampling"]["max_tokens"] == 48
    assert asked["sampling"]["repetition_penalty"] == 1.1
