"""Chat templates from outside: the model's own, a file, another tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import TemplateError
from schemas.small_files import read_small_text
from tasks.engine.scratch import scratch_folder
from tasks.models.source import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VOCABULARY_MULTIPLE = 64
"""New embeddings are rounded up to this many rows, as TRL does, for faster matrix products."""


def own_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the model's default template; TemplateError if it has none that is a text."""
    template = tokenizer.chat_template
    if isinstance(template, str):
        return template
    if not isinstance(template, dict):
        raise TemplateError(
            "the chat template of the model is no text",
            where="chat_template in tokenizer_config.json",
            expected="Jinja source",
            got=type(template).__name__,
            fix="set template.kind=chatml, or template.kind=file and template.path",
        )
    if "default" not in template:
        raise TemplateError(
            "the model has several chat templates and none is the default",
            expected="one with the name default",
            got=", ".join(sorted(template)),
            fix="save the one you want to a file, and set template.kind=file and template.path",
        )
    return str(template["default"])


def read_user_template(path: str) -> str:
    """Read the user's template; TemplateError if the file is missing, empty or not text."""
    try:
        text = read_small_text(Path(path).expanduser())
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    if not text.strip():
        raise _unreadable(path, "an empty file")
    return text


def _unreadable(path: str, got: str) -> TemplateError:
    return TemplateError(
        "the template file cannot be read",
        where=f"template.path={path}",
        expected="a jinja file, UTF-8",
        got=got,
        fix="correct template.path",
    )


def clone_template(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Copy template and special tokens of another tokenizer, with TRL.

    Args:
        model: Changed in place.
        tokenizer: Changed in place.
        name: Tokenizer folder or hub id.

    Raises:
        ModelSourceError: There is no tokenizer of that name, or it has Python code.
        TemplateError: It has no chat template.
    """
    from trl import clone_chat_template

    source = load_tokenizer(name)
    if not source.chat_template:
        raise TemplateError(
            "the tokenizer to clone from has no chat template",
            where=f"template.clone_from={name}",
            expected="a tokenizer with a chat template",
            got="none",
            fix="use another tokenizer, or set template.kind=chatml",
        )
    source.chat_template = own_template(source)
    with scratch_folder() as folder:  # without code, and of the commit that was looked at
        source.save_pretrained(folder)
        clone_chat_template(
            model, tokenizer, str(folder), resize_to_multiple_of=VOCABULARY_MULTIPLE
        )
