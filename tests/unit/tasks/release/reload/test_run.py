from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.release.reload import run as reload_process
from tasks.release.reload.run import Answering, run
from tasks.release.reload.spec import EvaluatedSettings, ReloadSpec
from tests.support.evidence import CONFIG
from tests.support.toy import make_toy_model

PROMPT = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
SPEC = ReloadSpec(
    address="models:/toy/1",
    folder="",
    n_prompts=1,
    settings=EvaluatedSettings(
        model_sha256="",
        template_sha256="",
        stop_token_ids=(),
        dtype="float32",
        device="cpu",
        eval_sha256="",
        seed=0,
        evaluation=CONFIG.evaluation,
    ),
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A toy model that says one letter for ever, b being exactly as likely as a."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_toy_model(tmp_path_factory.mktemp("toy"))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    model.lm_head = torch.nn.Linear(32, len(tokenizer), bias=True)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.zero_()
        model.lm_head.bias[[a, b]] = 5.0
    return model, tokenizer


def test_a_token_that_was_as_likely_is_a_tie(toy: tuple[Any, Any]) -> None:
    answer = Answering(*toy, PROMPT, SPEC)
    assert answer.text == "a" * 8
    assert answer.ties_with("aab and whatever follows")
    assert answer.ties_with("b")


def test_a_token_that_was_less_likely_is_no_tie(toy: tuple[Any, Any]) -> None:
    answer = Answering(*toy, PROMPT, SPEC)
    assert not answer.ties_with("c")
    assert not answer.ties_with("aac")
    assert not answer.ties_with("aa")  # stopping was not as likely


def test_memory_that_ran_out_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def observe(_: ReloadSpec) -> None:
        raise MemoryError

    monkeypatch.setattr(reload_process, "observe", observe)
    assert run(SPEC)["error"] == "ReloadInterrupted"


def test_an_unknown_fault_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def observe(_: ReloadSpec) -> None:
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(reload_process, "observe", observe)
    with pytest.raises(RuntimeError, match="size mismatch"):
        run(SPEC)


def test_outcome_is_written_beside_the_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload_process, "run", lambda spec: {"error": spec.address})
    path = tmp_path / "spec.json"
    path.write_text(SPEC.model_copy(update={"folder": str(tmp_path)}).model_dump_json())
    reload_process.main(path)
    assert (tmp_path / "outcome.json").read_text() == '{"error": "models:/toy/1"}'
