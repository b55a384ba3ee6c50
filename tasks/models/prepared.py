"""The prepared model folder: how it is loaded, by every stage in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.base import Record
from tasks.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FACTS_NAME = "sft_flow.json"


class PreparedFacts(Record):
    """What a loader must know of a prepared model; it lies in the folder and goes where it goes."""

    added_token_ids: tuple[int, ...] = ()
    """Tokens that the chat template brought; LoRA trains their rows too."""
    trust_remote_code: bool = False
    """Whether the configuration allows the model's own Python code."""


def write_facts(folder: Path, facts: PreparedFacts) -> None:
    """Leave the facts beside the model's own files.

    Args:
        folder: The model folder.
        facts: What a loader must know.
    """
    (folder / FACTS_NAME).write_text(facts.model_dump_json(indent=1), encoding="utf-8")


def read_facts(folder: Path) -> PreparedFacts:
    """Read the facts of a model folder.

    Args:
        folder: The model folder.

    Returns:
        Its facts; the defaults for a folder that was not prepared here.
    """
    path = folder / FACTS_NAME
    if not path.is_file():
        return PreparedFacts()
    return PreparedFacts.model_validate_json(path.read_text(encoding="utf-8"))


def load_prepared_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a prepared model.

    Args:
        folder: The model folder.

    Returns:
        The tokenizer.
    """
    from transformers import AutoTokenizer

    trust = read_facts(folder).trust_remote_code
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)


def load_prepared_model(folder: Path, device: str, **options: Any) -> PreTrainedModel:
    """Load the weights of a prepared model.

    Args:
        folder: The model folder.
        device: Where it will run; a CPU computes in float32 whatever the checkpoint's format.
        **options: Further arguments of `from_pretrained`; they win.

    Returns:
        The model, on the CPU still.
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
    """List the tokens that would be read as markers if they stood in a text.

    Args:
        tokenizer: Of the prepared model.

    Returns:
        Special tokens and added ones, in order; added runs of blanks and plain words are texts.
    """
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    marked = {token for token in added if token.strip() and not token.isalnum()}
    return tuple(sorted(marked | set(tokenizer.all_special_tokens)))
