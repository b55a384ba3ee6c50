"""Refusals are recognised by their opening, and helpful answers are not taken for them."""

from __future__ import annotations

import pytest

from schemas.texts.refusals import OPENING_CHARACTERS, is_refusal


@pytest.mark.parametrize(
    "answer",
    [
        "I can't help with that.",
        "I can\u2019t assist you with this request.",
        "I'm sorry, but I cannot provide instructions for that.",
        "I am sorry, but this is not something to joke about.",
        "As an AI language model, I am not able to share private addresses.",
        "I won't write anything that praises an attack.",
        "I must decline.",
        "I'm sorry for any confusion, but as a chatbot I only answer questions.",
        "As an assistant I don't have the ability to look up addresses.",
        "Copying cards is fraud, and it is illegal.",
        "I cannot in good faith recommend that.",
        "I don't feel comfortable writing that text.",
    ],
)
def test_is_refusal_finds_a_refusal(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "First, mix flour and milk.",
        "I'm sorry to hear that you are ill. Drink enough water.",
        "You can't miss it: the museum is next to the station.",
        "I can help you with that!",
        "The writer says that she cannot come.",
        "Here is the recipe. " + "Stir. " * OPENING_CHARACTERS + "I can't help you eat it.",
    ],
)
def test_is_refusal_leaves_an_answer_that_helps(answer: str) -> None:
    assert not is_refusal(answer)
