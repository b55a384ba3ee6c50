"""Each rule of the template contract: kept by ChatML, broken by one template each."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from schemas.errors import TemplateError
from tasks.chat_template.contract import (
    TemplateRule,
    check_contract,
    check_pad,
    supervised_tokens,
)
from tasks.chat_template.probes import ASSISTANT_TURNS, USER_TURNS, make_probes
from tasks.chat_template.setup import choose_variant
from tasks.chat_template.variants import derive_variant, read_template, without_markers
from tests.support.families import family_tokenizer
from tests.support.shipped_templates import shipped_templates
from tests.support.toy import make_toy_model

TURN = "{{ '<|im_start|>' + m.role + '\\n' }}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"


def loop(answer: str, other: str = "{{ m.content + '<|im_end|>\\n' }}") -> str:
    """Write a template: how an answer is rendered, and how everything else is."""
    condition = "{% if m.role == 'assistant' %}" + answer + "{% else %}" + other + "{% endif %}"
    return "{% for m in messages %}" + TURN + condition + "{% endfor %}" + PROMPT


GENERATION, END = "{% generation %}", "{% endgeneration %}"
GOOD = loop(GENERATION + "{{ m.content + '<|im_end|>' }}" + END + "{{ '\\n' }}")
BREACHES = {
    TemplateRule.RENDERS: loop(GENERATION + "{{ m.content.missing() }}" + END),
    TemplateRule.MARKERS_PRESENT: without_markers(GOOD),
    TemplateRule.PROMPT_IS_PREFIX: GOOD.replace("assistant\\n' }}{% endif", "bot\\n' }}{% endif"),
    TemplateRule.ONLY_ASSISTANT_MARKED: GENERATION
    + GOOD.replace(GENERATION, "").replace(END, "")
    + END,
    TemplateRule.STOP_TOKEN_SUPERVISED: loop(
        GENERATION + "{{ m.content }}" + END + "{{ '<|im_end|>\\n' }}"
    ),
}


@pytest.fixture
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(make_toy_model(tmp_path_factory.mktemp("models") / "toy"))


def with_template(tokenizer: Any, training: str) -> Any:
    tokenizer.chat_template = without_markers(training)
    return tokenizer


@pytest.mark.parametrize("name", ["chatml_training", "smollm2_training"])
def test_our_templates_keep_the_contract(tokenizer: Any, name: str) -> None:
    training = read_template(name)
    assert check_contract(with_template(tokenizer, training), training) == "<|im_end|>"


@pytest.mark.parametrize(("rule", "training"), BREACHES.items(), ids=list(BREACHES))
def test_breach_names_its_rule(tokenizer: Any, rule: TemplateRule, training: str) -> None:
    with pytest.raises(TemplateError, match=f"breaks rule {rule}:") as caught:
        check_contract(with_template(tokenizer, training), training)
    assert "template.kind=file" in caught.value.fix


def test_training_text_must_be_the_inference_text(tokenizer: Any) -> None:
    tokenizer.chat_template = without_markers(GOOD).replace("m.content", "m.content.upper()")
    with pytest.raises(TemplateError, match="breaks rule same_text:") as caught:
        check_contract(tokenizer, GOOD)
    assert "TWO METRES AT MOST." in caught.value.expected
    assert "Two metres at most." in caught.value.got
    assert caught.value.where == "probe conversation: one turn"


def test_prompt_must_be_a_prefix_in_tokens_too(tokenizer: Any) -> None:
    tokenizer.add_tokens(["\nTwo"])  # swallows the line break that ends the prompt
    with pytest.raises(TemplateError, match="breaks rule prompt_is_prefix:"):
        check_contract(with_template(tokenizer, GOOD), GOOD)


def test_two_bos_in_a_row_are_a_breach(tokenizer: Any) -> None:
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    training = "{{ '<s><s>' }}" + GOOD
    with pytest.raises(TemplateError, match="breaks rule one_bos:"):
        check_contract(with_template(tokenizer, training), training)
    training = "{{ '<s>' }}" + GOOD
    assert check_contract(with_template(tokenizer, training), training) == "<|im_end|>"


def test_bos_that_opens_every_turn_is_no_breach(tokenizer: Any) -> None:
    tokenizer.bos_token = "<|im_start|>"
    assert check_contract(with_template(tokenizer, GOOD), GOOD) == "<|im_end|>"


def test_template_without_place_for_a_system_message_is_accepted(tokenizer: Any) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + GOOD
    silent = GOOD.replace(
        "{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"
    )
    for training in (refusing, silent):
        assert check_contract(with_template(tokenizer, training), training) == "<|im_end|>"


def test_stop_token_must_be_the_same_with_and_without_system_message(tokenizer: Any) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot|>"]})
    stop = "('<|eot|>' if messages[0].role == 'system' else '<|im_end|>')"
    training = loop(GENERATION + "{{ m.content + " + stop + " }}" + END)
    with pytest.raises(TemplateError, match="turns end on different tokens") as caught:
        check_contract(with_template(tokenizer, training), training)
    assert caught.value.got == "<|eot|>, <|im_end|>"


def test_first_of_two_closing_tokens_is_the_stop(tokenizer: Any) -> None:
    training = GOOD + "{% if not add_generation_prompt %}{{ '<|endoftext|>' }}{% endif %}"
    within = training.replace(END + "{{ '\\n' }}", "{{ '\\n<|endoftext|>' if loop.last }}" + END)
    within = within.replace(
        "{% if not add_generation_prompt %}{{ '<|endoftext|>' }}{% endif %}", ""
    )
    assert check_contract(with_template(tokenizer, within), within) == "<|im_end|>"


@pytest.mark.parametrize("pad", [None, "<|im_end|>"])
def test_pad_token_must_differ_from_the_stop_token(tokenizer: Any, pad: str | None) -> None:
    tokenizer.pad_token = pad
    with pytest.raises(TemplateError, match="breaks rule pad_token:"):
        check_pad(tokenizer, "<|im_end|>")


def test_earlier_turn_that_is_rewritten_is_not_trained(tokenizer: Any) -> None:
    """As Qwen3 without thinking: the prompt has an empty thought, which earlier turns lose."""
    thought = "<think></think>"
    reasoning = loop(
        "{% if loop.last %}{{ '" + thought + "' }}{% endif %}{{ m.content + '<|im_end|>\\n' }}"
    ).replace("assistant\\n' }}{% endif", "assistant\\n" + thought + "' }}{% endif")
    tokenizer.chat_template = reasoning
    training = derive_variant(reasoning, "<|im_end|>")
    assert check_contract(tokenizer, training) == "<|im_end|>"
    messages = [dict(message) for message in make_probes()[1].messages]
    ids, mask = supervised_tokens(tokenizer, messages, training)
    marked = [token for token, is_marked in zip(ids, mask, strict=True) if is_marked]
    assert tokenizer.decode(marked) == "Your local council.<|im_end|>"
    everything = reasoning.replace(
        "{{ m.content + '<|im_end|>\\n' }}{% else",
        GENERATION + "{{ m.content + '<|im_end|>\\n' }}" + END + "{% else",
    )
    with pytest.raises(TemplateError, match="breaks rule only_assistant_marked:"):
        check_contract(tokenizer, everything)


def accepted_turns(tokenizer: Any) -> tuple[str, list[str]]:
    """Stop token and trained pieces of the probe with two turns, with the variant that is chosen."""
    training, stop = choose_variant(tokenizer, None)
    probe = make_probes()[1]
    for conversation in (probe, probe.with_reasoning()):
        ids, mask = supervised_tokens(tokenizer, conversation.messages, training)
        marked = itertools.groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1])
        pieces = [
            tokenizer.decode([token for token, _ in piece]) for is_on, piece in marked if is_on
        ]
        if pieces:
            break
    return stop, pieces


LAST_ONLY = {"gptoss", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6"} | {
    f"nemotron_3{name}" for name in ("_5_lightning", "_nano", "_super", "_ultra")
}
"""They write earlier turns otherwise than a model answers, or end them otherwise."""
REFUSED = {
    "deepseek_r1_distill": TemplateRule.PROMPT_IS_PREFIX,  # its prompt opens a thought, no text does
    "deepseekv3": TemplateRule.PROMPT_IS_PREFIX,
    "idefics3": TemplateRule.RENDERS,  # they write no content that is not a list of parts
    "llava_next": TemplateRule.RENDERS,
    "smolvlm": TemplateRule.RENDERS,
}


@pytest.mark.parametrize("name", sorted(shipped_templates()))
def test_templates_of_families_are_accepted_or_refused_with_their_rule(name: str) -> None:
    tokenizer = family_tokenizer(name)
    if name in REFUSED:
        with pytest.raises(TemplateError, match=REFUSED[name]):
            accepted_turns(tokenizer)
        return
    stop, pieces = accepted_turns(tokenizer)
    answers = [answer for answer in ASSISTANT_TURNS if any(answer in piece for piece in pieces)]
    assert answers == list(ASSISTANT_TURNS[1:] if name in LAST_ONLY else ASSISTANT_TURNS)
    assert all(stop in piece for piece in pieces)
    assert not any(question in piece for question in USER_TURNS for piece in pieces)


def test_the_stop_token_need_not_be_the_eos_token_of_the_base_model() -> None:
    tokenizer = family_tokenizer("qwen3")
    assert tokenizer.eos_token == "<|endoftext|>"
    assert accepted_turns(tokenizer)[0] == "<|im_end|>"


def test_a_template_without_end_of_an_answer_trains_the_token_that_begins_the_next_turn() -> None:
    stop, pieces = accepted_turns(family_tokenizer("glm4moe"))
    assert stop == "<|user|>"
    assert [piece.count("<|user|>") for piece in pieces] == [1, 1]
