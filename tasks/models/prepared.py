"""Load the prepared model folder; every stage does it this way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.base import Record
from tasks.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FACTS_NAME = "sft_flow.json"


class PreparedFacts(Record):
    """How to load a prepared model; stored in the model folder."""

    added_token_ids: tuple[int, ...] = ()
    """Tokens added for the chat template; LoRA trains their rows too."""
    trust_remote_code: bool = False
    """Whether the configuration allows the model's own Python code."""
    clock: str = ""
    """Date on which the model was prepared, `YYYY-MM-DD`, where its template reads the clock: what
    is trained and asked until it is prepared again has that date."""


def write_facts(folder: Path, facts: PreparedFacts) -> None:
    """Write the facts next to the model's own files."""
    (folder / FACTS_NAME).write_text(facts.model_dump_json(indent=1), encoding="utf-8")


def read_facts(folder: Path) -> PreparedFacts:
    """Read the facts of a model folder; the defaults for a folder that was not prepared here."""
    path = folder / FACTS_NAME
    if not path.is_file():
        return PreparedFacts()
    return PreparedFacts.model_validate_json(path.read_text(encoding="utf-8"))


def load_prepared_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a prepared model."""
    from transformers import AutoTokenizer

    trust = read_facts(folder).trust_remote_code
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)


def load_prepared_model(folder: Path, device: str, **options: Any) -> PreTrainedModel:
    """Load the weights of a prepared model onto the CPU; `options` go to `from_pretrained`.

    A CPU as `device`, where it will run, computes in float32 whatever the checkpoint's format.
    """
    import torch
    from transformers import AutoModelForCausalLM

    usual = {
        "dtype": torch.float32 if device == "cpu" else "auto",
        "local_files_only": True,
        "trust_remote_code": read_facts(folder).trust_remote_code,
    }
    with quiet_transformers():
        return AutoModelForCausalLM.from_pretrained(folder, **(usual | options))


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """List the tokens that would be read as markers if they occurred in a text.

    Special tokens, and other added ones that the chat template writes, in order. Added tokens besides,
    such as Gemma's `<b>` and `<table>`, runs of blanks and plain words are text.
    """
    templates = str(tokenizer.chat_template or "")
    added = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or token.content in templates
    }
    marked = {token for token in added if token.strip() and not token.isalnum()}
    return tuple(sorted(marked | set(tokenizer.all_special_tokens)))
