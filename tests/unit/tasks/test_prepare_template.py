"""Stage `prepare_template`: what it writes, that it repeats itself, and what its key covers."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.config.run import ModelConfig, TemplateConfig
from schemas.errors import TemplateError
from tasks.chat_template.contract import check_contract
from tasks.chat_template.variants import read_template
from tasks.prepare_template import prepare_model, source_fingerprint
from tests.support.parts import BUNDLED_MODEL
from tests.support.toy import TOY_TEMPLATE, make_toy_model


def sha256_of(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def prepare(source: Path, output: Path, seed: int = 1) -> dict[str, str | int]:
    output.mkdir()
    return prepare_model(output, ModelConfig(source=str(source)), TemplateConfig(), seed)


def fingerprint(source: Path, **template: str) -> str:
    return source_fingerprint(
        {
            "model": ModelConfig(source=str(source)),
            "template": TemplateConfig.model_validate(template),
        }
    )


def load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_facts_tell_what_was_set_up(tmp_path: Path) -> None:
    source = make_toy_model(tmp_path / "toy", has_template=False)
    facts = prepare(source, tmp_path / "out")
    model, tokenizer = load(tmp_path / "out" / "model")
    assert facts == {
        "model_name": str(source),
        "model_fingerprint": fingerprint(source),
        "template_sha256": hashlib.sha256(read_template("chatml").encode()).hexdigest(),
        "template_origin": "chatml",
        "n_parameters": sum(weight.numel() for weight in model.parameters()),
        "n_added_tokens": 2,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "special_tokens": ("<|endoftext|>", "<|im_end|>", "<|im_start|>"),
    }
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_saved_model_keeps_the_contract_with_the_saved_template(tmp_path: Path) -> None:
    prepare(make_toy_model(tmp_path / "toy"), tmp_path / "out")
    _, tokenizer = load(tmp_path / "out" / "model")
    training = (tmp_path / "out" / "training_template.jinja").read_text(encoding="utf-8")
    assert tokenizer.chat_template == TOY_TEMPLATE
    assert check_contract(tokenizer, training) == "<|im_end|>"
    assert {"model.safetensors", "config.json", "generation_config.json"} <= {
        path.name for path in (tmp_path / "out" / "model").iterdir()
    }


@pytest.mark.parametrize("has_template", [True, False])
def test_same_input_and_seed_give_the_same_files(tmp_path: Path, has_template: bool) -> None:
    source = make_toy_model(tmp_path / "toy", has_template=has_template)
    moved = Path(shutil.copytree(source, tmp_path / "elsewhere"))
    prepare(source, tmp_path / "first")
    prepare(moved, tmp_path / "second")
    assert sha256_of(tmp_path / "first") == sha256_of(tmp_path / "second")


def test_good_run_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = make_toy_model(tmp_path / "toy", has_template=False)
    capfd.readouterr()
    prepare(source, tmp_path / "out")
    assert capfd.readouterr() == ("", "")


def test_libraries_talk_again_after_the_stage(tmp_path: Path) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    prepare(make_toy_model(tmp_path / "toy"), tmp_path / "out")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_fingerprint_covers_model_template_file_and_clone_source(tmp_path: Path) -> None:
    source = make_toy_model(tmp_path / "toy")
    other = make_toy_model(tmp_path / "other", seed=1)
    mine = tmp_path / "mine.jinja"
    mine.write_text(TOY_TEMPLATE)
    before = [
        fingerprint(source),
        fingerprint(source, kind="file", path=str(mine)),
        fingerprint(source, kind="clone", clone_from=str(other)),
    ]
    assert len(set(before)) == 3
    assert before[0] != fingerprint(other)
    mine.write_text(TOY_TEMPLATE + "{# changed #}")
    (other / "chat_template.jinja").write_text("changed")
    assert before[1] != fingerprint(source, kind="file", path=str(mine))
    assert before[2] != fingerprint(source, kind="clone", clone_from=str(other))


def test_clone_from_something_without_a_tokenizer_of_its_own_is_refused(tmp_path: Path) -> None:
    source = make_toy_model(tmp_path / "toy")
    with pytest.raises(TemplateError, match="can only be cloned from"):
        fingerprint(source, kind="clone", clone_from="models:/faq/1")


@pytest.mark.slow
@BUNDLED_MODEL.mark
def test_bundled_model_answers_as_before_its_conversion(tmp_path: Path) -> None:
    from tasks.models.bundled import bundled_file
    from tasks.models.gguf import load_gguf

    facts = prepare_model(tmp_path, ModelConfig(), TemplateConfig(), 1)
    assert facts["template_origin"] == "model"
    assert (facts["eos_token"], facts["pad_token"]) == ("<|im_end|>", "<|endoftext|>")
    training = (tmp_path / "training_template.jinja").read_text(encoding="utf-8")
    assert training == read_template("smollm2_training")
    answers = []
    for model, tokenizer in (load_gguf(bundled_file()), load(tmp_path / "model")):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is a building permit?"}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        tokens = model.generate(**prompt, do_sample=False, max_new_tokens=24)
        answers.append(tokenizer.decode(tokens[0]))
    assert answers[0] == answers[1]


def test_only_a_template_that_reads_the_clock_pins_the_date(tmp_path: Path) -> None:
    from datetime import date

    from tasks.models.prepared import read_facts

    plain = make_toy_model(tmp_path / "plain")
    prepare(plain, tmp_path / "out-plain")
    assert read_facts(tmp_path / "out-plain" / "model").clock == ""
    dated = make_toy_model(tmp_path / "dated")
    _, tokenizer = load(dated)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + TOY_TEMPLATE
    tokenizer.save_pretrained(dated)
    prepare(dated, tmp_path / "out-dated")
    assert read_facts(tmp_path / "out-dated" / "model").clock == date.today().isoformat()
