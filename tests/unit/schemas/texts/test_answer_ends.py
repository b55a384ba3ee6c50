from __future__ import annotations

import polars
import pytest

from schemas.texts.answer_ends import ANSWER_END_HINT, find_broken_end, open_code_places

OPEN_CODE = [
    "So:\n```python\nx = 1",
    "```\na\n```\nand\n```js\nb(",
    "> ```\n> a",
]
FOUND = [
    ("Two.\n\n### Response:\n", "### Response:"),
    ("Two.\n### Instruction:\nDo it.\n### Response:\nOk.", "### Instruction:"),
    ("Two. ### Human: go on", "### Human:"),
    ("Two.\nHuman: And now?\nAssistant: Well.", "Human:"),
    ("Two. [EOS]", "[EOS]"),
    ("<answer>Two", "<answer> is never closed"),
    ("<think>\nx\n</think>\n<answer>Two", "<answer> is never closed"),
    ("<|begin_of_solution|>\nTwo", "<|begin_of_solution|> is never closed"),
    ("<think>\nIt is two.\n</think>\n", "nothing follows the thought"),
]
LEGAL = [
    "",
    "```\na\n```",
    "x = 1\n```",
    "````markdown\n```python\nx\n```\n````",
    "```markdown\n```python\nx\n```\n```",
    "Open code with ``` and go on.",
    "return x```",
    "### Response:\nThis is how Alpaca formats it.",
    "User: Hi\nAssistant: Hello\nUser: Bye\nAssistant: Bye",
    "Here is a dialogue:\n\nHuman: Hi\nAI: Hello\nHuman: Bye\nAI: Bye",
    "Human: is a word. Assistant: too.",
    "<answer>Two</answer>",
    "<think>\nx\n</think>\nTwo.",
    "The tag <answer> is written first.",
]


@pytest.mark.parametrize("text", OPEN_CODE)
def test_open_code_is_found(text: str) -> None:
    assert find_broken_end(text) == "a block of code is never closed"
    assert open_code_places(polars.Series([None, "x", text])).to_list() == [2]


@pytest.mark.parametrize(("text", "seen"), FOUND)
def test_broken_end_is_found_and_hinted_at(text: str, seen: str) -> None:
    assert find_broken_end(text) == seen
    assert polars.Series([text]).str.contains(ANSWER_END_HINT).item()


@pytest.mark.parametrize("text", LEGAL)
def test_sound_answers_are_left_alone(text: str) -> None:
    assert find_broken_end(text) == ""
