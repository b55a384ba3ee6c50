"""The template contract: rules for the training and the inference text of a model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from schemas.errors import TemplateError
from tasks.chat_template.probes import SYSTEM_TURN, Message, Probe, make_probes
from tasks.chat_template.variants import find_stop, has_markers, render_faults

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIX = (
    "write a template that keeps the contract, with {% generation %} and {% endgeneration %} around "
    "the assistant's text and its stop token, and set template.kind=file and template.path"
)


class TemplateRule(StrEnum):
    """Rules of the contract."""

    RENDERS = "renders"
    MARKERS_PRESENT = "markers_present"
    SAME_TEXT = "same_text"
    PROMPT_IS_PREFIX = "prompt_is_prefix"
    ONLY_ASSISTANT_MARKED = "only_assistant_marked"
    STOP_TOKEN_SUPERVISED = "stop_token_supervised"  # noqa: S105 - a rule, not a password
    ONE_BOS = "one_bos"
    PAD_TOKEN = "pad_token"  # noqa: S105


def check_contract(tokenizer: PreTrainedTokenizerBase, training_template: str) -> str:
    """Check a tokenizer and a training template against the contract.

    Args:
        tokenizer: Tokenizer with its inference template set.
        training_template: Jinja source with generation markers.

    Returns:
        The token that ends an assistant turn.

    Raises:
        TemplateError: A rule of the contract is broken; the message contains it.
    """
    if not has_markers(training_template):
        raise _breach(
            TemplateRule.MARKERS_PRESENT,
            "it has no generation markers",
            expected="{% generation %}",
            got="none",
        )
    probes = _choose_probes(tokenizer)
    stops = {_check_probe(tokenizer, training_template, probe) for probe in probes}
    if len(stops) > 1:
        raise _breach(
            TemplateRule.STOP_TOKEN_SUPERVISED,
            "turns end on different tokens",
            expected="one stop token",
            got=", ".join(sorted(stops)),
        )
    return stops.pop()


def _choose_probes(tokenizer: PreTrainedTokenizerBase) -> list[Probe]:
    """Choose the conversations that the template has a place for.

    Where the prompt opens a thought, only answers with reasoning follow from it: then the data gate
    checks row by row whether they have any.
    """
    probes = [probe for probe in make_probes() if not _is_system_refused(tokenizer, probe)]
    if _begins_with_prompt(tokenizer, probes[0]):
        return probes
    reasoned = [probe.with_reasoning() for probe in probes]
    return reasoned if _begins_with_prompt(tokenizer, reasoned[0]) else probes


def _begins_with_prompt(tokenizer: PreTrainedTokenizerBase, probe: Probe) -> bool:
    last = probe.assistant_turns[-1]
    prompt = render(tokenizer, probe.before(last), add_generation_prompt=True)
    return render(tokenizer, probe.messages).startswith(prompt)


def _check_probe(tokenizer: PreTrainedTokenizerBase, training_template: str, probe: Probe) -> str:
    """Check one conversation and return its stop token."""
    messages = list(probe.messages)
    inference = render(tokenizer, messages)
    training = render(tokenizer, messages, chat_template=training_template)
    if inference != training and not _adds_stop(tokenizer, inference, training):
        raise _breach(
            TemplateRule.SAME_TEXT,
            "training and inference would see different texts",
            where=probe.name,
            expected=repr(inference),
            got=repr(training),
        )
    lost = [message["content"] for message in messages if message["content"] not in inference]
    if lost:
        raise _breach(
            TemplateRule.RENDERS,
            "it leaves out the text of a message, perhaps since it wants a list of parts",
            where=probe.name,
            expected=repr(lost[0]),
            got=repr(inference),
        )
    turns = _trainable_turns(tokenizer, probe, inference)
    ids, mask = supervised_tokens(tokenizer, messages, training_template)
    _check_bos(tokenizer, ids, probe)
    return _check_marked(tokenizer, ids, mask, probe, turns)


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], **options: Any) -> str:
    """Render a conversation to text; TemplateError when the template cannot."""
    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, **options))
    except render_faults() as error:
        raise _breach(
            TemplateRule.RENDERS,
            "it cannot render a plain conversation",
            where=", ".join(message["role"] for message in messages),
            expected="text",
            got=f"{type(error).__name__}: {error}",
        ) from error


def supervised_tokens(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], training_template: str
) -> tuple[list[int], list[int]]:
    """Tokenise a conversation and mark which tokens are trained.

    Args:
        tokenizer: Tokenizer backed by the `tokenizers` library.
        messages: The conversation.
        training_template: Jinja source with generation markers.

    Returns:
        Token ids, and 1 (trained) or 0 for each.
    """
    output = tokenizer.apply_chat_template(
        list(messages),
        chat_template=training_template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return list(output["input_ids"]), list(output["assistant_masks"])


def _adds_stop(tokenizer: PreTrainedTokenizerBase, inference: str, training: str) -> bool:
    """Return whether training only adds a special token, for an answer that ends without one.

    Such models stop where the next turn would begin, so they have to learn that token.
    """
    if find_stop(tokenizer) or not training.startswith(inference):
        return False
    added = tokenizer(training[len(inference) :], add_special_tokens=False)["input_ids"]
    return len(added) == 1 and added[0] in tokenizer.added_tokens_decoder


def _is_system_refused(tokenizer: PreTrainedTokenizerBase, probe: Probe) -> bool:
    """Return whether a template has no place for a system message, which is allowed."""
    if probe.messages[0]["role"] != "system":
        return False
    try:
        return SYSTEM_TURN not in render(tokenizer, probe.messages)
    except TemplateError:
        return True


def _trainable_turns(tokenizer: PreTrainedTokenizerBase, probe: Probe, text: str) -> list[int]:
    """Find the assistant turns whose prompt begins the text; the last one has to be among them.

    Templates of reasoning models write earlier turns otherwise than they were asked and answered,
    or end them otherwise.
    """
    stop = find_stop(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = []
    for turn in probe.assistant_turns:
        prompt = render(tokenizer, probe.before(turn), add_generation_prompt=True)
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if text.startswith(prompt) and ids[: len(prompt_ids)] == prompt_ids:
            n_so_far = len(render(tokenizer, probe.before(turn + 2)))
            if stop in text[len(prompt) : n_so_far] or turn == probe.assistant_turns[-1]:
                found.append(turn)
        elif turn == probe.assistant_turns[-1]:
            raise _breach(
                TemplateRule.PROMPT_IS_PREFIX,
                "the training text does not begin with the prompt at inference",
                where=probe.name,
                expected=repr(prompt),
                got=repr(text[: len(prompt)]),
            )
    return found


def _check_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int], probe: Probe) -> None:
    """Find two BOS in a row; some templates open every turn with one, which is no fault."""
    bos = tokenizer.bos_token_id
    if bos is not None and any(first == second == bos for first, second in itertools.pairwise(ids)):
        raise _breach(
            TemplateRule.ONE_BOS,
            "the text begins with two BOS tokens",
            where=probe.name,
            expected="at most one",
            got="two in a row",
        )


def _check_marked(
    tokenizer: PreTrainedTokenizerBase,
    ids: list[int],
    mask: list[int],
    probe: Probe,
    turns: Sequence[int],
) -> str:
    """Check that each of these turns is marked, nothing else, up to its stop token."""
    pieces = _marked_pieces(ids, mask)
    texts = [str(tokenizer.decode(piece)) for piece in pieces]
    answers = [probe.messages[turn]["content"] for turn in turns]
    others = [m["content"] for n, m in enumerate(probe.messages) if n not in turns]
    are_answers = len(texts) == len(answers) and all(
        answer in text for answer, text in zip(answers, texts, strict=True)
    )
    if not are_answers or any(other in text for other in others for text in texts):
        raise _breach(
            TemplateRule.ONLY_ASSISTANT_MARKED,
            "the markers do not enclose each assistant turn that can be trained, and nothing else",
            where=probe.name,
            expected=repr(answers),
            got=repr(texts),
        )
    stops = {_stop_token(tokenizer, piece) for piece in pieces}
    if len(stops) > 1 or "" in stops:
        raise _breach(
            TemplateRule.STOP_TOKEN_SUPERVISED,
            "the model would not learn to stop",
            where=probe.name,
            expected="the same special token at the end of each marked turn",
            got=repr([text[-20:] for text in texts]),
        )
    return stops.pop()


def _marked_pieces(ids: list[int], mask: list[int]) -> list[list[int]]:
    pieces: list[list[int]] = []
    was_marked = 0
    for token, is_marked in zip(ids, mask, strict=True):
        if is_marked and not was_marked:
            pieces.append([])
        if is_marked:
            pieces[-1].append(token)
        was_marked = is_marked
    return pieces


def _stop_token(tokenizer: PreTrainedTokenizerBase, piece: list[int]) -> str:
    """Return the first of the special tokens a marked turn ends with; empty when there is none."""
    stop = ""
    for token in reversed(piece):
        if token in tokenizer.added_tokens_decoder:
            stop = str(tokenizer.convert_ids_to_tokens(token))
        elif str(tokenizer.decode([token])).strip():
            break
    return stop


def check_pad(tokenizer: PreTrainedTokenizerBase, stop: str) -> None:
    """Check that padding cannot be confused with the end of a turn."""
    if tokenizer.pad_token is None or tokenizer.pad_token == stop:
        raise _breach(
            TemplateRule.PAD_TOKEN,
            "padding cannot be distinguished from the end of a turn",
            expected=f"a pad token other than {stop}",
            got=str(tokenizer.pad_token),
        )


def _breach(
    rule: TemplateRule, problem: str, *, where: str = "", expected: str, got: str
) -> TemplateError:
    return TemplateError(
        f"the chat template breaks rule {rule}: {problem}",
        where=f"probe conversation: {where}" if where else "",
        expected=expected,
        got=got,
        fix=FIX,
    )
