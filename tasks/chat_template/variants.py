"""Training variants of chat templates: the same text, with markers around the assistant's text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = Path(__file__).parent
ASSETS = tuple(
    TEMPLATES / f"{name}.jinja"
    for name in ("chatml", "chatml_training", "smollm2_training", "derived_training")
)
KNOWN_VARIANTS = {
    "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788": "smollm2_training",
}
"""sha256 of an inference template's text to the file with its training variant."""

_OPEN = re.compile(r"\{%([-+]?)\s*generation\s*([-+]?)%\}")
_CLOSE = re.compile(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}")
_HEADER = re.compile(r"\A\{#-.*?-#\}\s*", re.DOTALL)


_CLOCK = "strftime_now"
"""Function by which templates read today's date."""
# Renderers drop the line break after a block, so the rest of the template keeps its text.
_FROZEN = "{%- macro strftime_now(format) -%}{{ sft_flow_clock.strftime(format) }}{%- endmacro %}\n"
ANSWER_MARK = "Sapphire"
WRITE_BOS = "{{- bos_token -}}\n"
"""Begins ChatML for a tokenizer that would begin a text with its BOS token itself."""


def template_sha256(text: str) -> str:
    """Hash a template's Jinja source."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_template(name: str) -> str:
    """Read one of the bundled templates; its name is the file name without `.jinja`."""
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def has_markers(template: str) -> bool:
    """Return whether a template has both markers of the assistant's text."""
    return bool(_OPEN.search(template) and _CLOSE.search(template))


def without_markers(template: str) -> str:
    """Make the inference template of a training template.

    The markers are replaced by a condition that is always true, since plain removal would undo the
    whitespace control of their tags. So tools that do not support the markers render the same text.
    """
    opened = _OPEN.sub(r"{%\1 if true \2%}", template)
    return _CLOSE.sub(r"{%\1 endif \2%}", opened)


def reads_clock(template: str) -> bool:
    """Return whether a template writes today's date, so that a row's text changes with the day."""
    return _CLOCK in template


def freeze_clock(template: str, day: str) -> tuple[str, dict[str, datetime]]:
    """Make a template write a given date as today's.

    Args:
        template: Jinja source.
        day: `YYYY-MM-DD`; empty leaves the clock as it is.

    Returns:
        Jinja source, and the variable that it needs.
    """
    if not day or not reads_clock(template):
        return template, {}
    return _FROZEN + template, {"sft_flow_clock": datetime.fromisoformat(day)}


def derive_variant(template: str, stop_token: str) -> str:
    """Make a training variant of any template, with the same text by construction.

    Args:
        template: Jinja source of the inference template.
        stop_token: The token that ends an assistant turn.

    Returns:
        Jinja source with markers; slower to render, once for each assistant turn.
    """
    original = template[:-1] if template.endswith("\n") else template  # as jinja itself does
    frame = _HEADER.sub("", read_template("derived_training"))
    frame = frame.replace("STOP", json.dumps(stop_token, ensure_ascii=False))
    return frame.replace("ORIGINAL", original)


def chatml_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return ChatML; it begins with the BOS token where the tokenizer begins every text with it."""
    return (WRITE_BOS if adds_bos(tokenizer) else "") + read_template("chatml")


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the tokenizer begins a text with its BOS token, as in pre-training."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    ids = tokenizer("a")["input_ids"]
    return (
        tokenizer.bos_token_id is not None and list(ids[:1]) == [tokenizer.bos_token_id] != bare[:1]
    )


def candidate_variants(tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, str]]:
    """List the training variants to try, the best first, with origin and Jinja source."""
    template = str(tokenizer.chat_template)
    if has_markers(template):
        yield "the template itself", template
    known = KNOWN_VARIANTS.get(template_sha256(template))
    if known:
        yield known, read_template(known)
    from_trl = _trl_variant(tokenizer)  # importing TRL takes seconds
    if from_trl is not None:
        yield "TRL", from_trl
    beginning = WRITE_BOS if template.startswith(WRITE_BOS) else ""
    if template == beginning + read_template("chatml"):
        yield "chatml_training", beginning + read_template("chatml_training")
    yield "derived", derive_variant(template, find_stop(tokenizer) or str(tokenizer.eos_token))


def render_faults() -> tuple[type[Exception], ...]:
    """Return the errors that rendering a template can raise, whatever it and the row contain."""
    from jinja2.exceptions import TemplateError as JinjaError

    kinds = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
    return (JinjaError, MemoryError, RecursionError, *kinds)


def find_stop(tokenizer: PreTrainedTokenizerBase) -> str:
    """Find the special token that a template writes behind an answer; empty if there is none.

    The EOS token of a base model is often another one than its template's.
    """
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": ANSWER_MARK}]
    try:
        text = str(tokenizer.apply_chat_template(chat, tokenize=False))
    except render_faults():
        return ""  # the contract says what it cannot render
    behind = tokenizer(text.rpartition(ANSWER_MARK)[2], add_special_tokens=False)["input_ids"]
    for token in behind:
        if token in tokenizer.added_tokens_decoder:
            return str(tokenizer.convert_ids_to_tokens(token))
    return ""


def _trl_variant(tokenizer: PreTrainedTokenizerBase) -> str | None:
    from trl.chat_template_utils import get_training_chat_template

    try:
        variant: str | None = get_training_chat_template(tokenizer)
    except render_faults():  # ValueError: a template without a variant in TRL
        return None
    return variant
