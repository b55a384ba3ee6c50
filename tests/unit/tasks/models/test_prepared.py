from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tasks.models.prepared import special_tokens


def tokenizer_with(*tokens: AddedToken, template: str | None) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])), eos_token="<eos>"
    )
    fast.add_tokens(list(tokens))
    fast.chat_template = template
    return fast


def test_special_tokens_are_those_marked_so_and_those_the_template_writes() -> None:
    fast = tokenizer_with(
        AddedToken("<b>", special=False),
        AddedToken("<table>", special=False),
        AddedToken("<|turn>", special=False),
        AddedToken("<|eot|>", special=True),
        AddedToken("\n\n", special=False),
        template="{{ '<|turn>' + message['content'] }}",
    )
    assert special_tokens(fast) == ("<eos>", "<|eot|>", "<|turn>")


def test_special_tokens_need_no_template() -> None:
    fast = tokenizer_with(AddedToken("<b>", special=False), template=None)
    assert special_tokens(fast) == ("<eos>",)
