"""Names that people give to the columns of prompts, answers and what goes with them."""

from __future__ import annotations

import re

COMPLETIONS = (
    "completion", "response", "answer", "output", "reply", "solution", "assistant", "bot", "gpt",
    "chosen",
)  # fmt: skip
LABELS = ("label", "category", "sentiment", "intent")
"""Names of answers that may be numbers instead of words, which say nothing to a language model."""
FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("problem", "exercise"), ("solution", "answer")),
    (("prompt", "question", "instruction", "query", "request", "questions"),
     (*COMPLETIONS, "answers")),
    (("q",), ("a",)),
    (("user", "human", "customer"),
     ("assistant", "gpt", "bot", "chatbot", "model", "agent", "ai", *COMPLETIONS)),
    (("input",), ("output", "target", *COMPLETIONS)),
    (("document", "article", "dialogue", "text"), ("summary", "highlights")),
    (("source",), ("target",)),
    (("text", "sentence", "review"), LABELS),
    # Columns named in other languages are taken as they are, one family each.
    (("frage",), ("antwort",)),
    (("question",), ("réponse",)),
    (("pregunta",), ("respuesta",)),
    (("pergunta",), ("resposta",)),
    (("domanda",), ("risposta",)),
    (("vraag",), ("antwoord",)),
    (("fråga",), ("svar",)),
    (("pytanie",), ("odpowiedź",)),
    (("вопрос",), ("ответ",)),
    (("问题", "提问", "問題"), ("回答", "答案", "答复")),
    (("質問",), ("回答", "答え")),
    (("질문",), ("답변", "대답")),
)  # fmt: skip
"""Names of prompts with those of their answers, the likeliest first; a pair is of one family."""
INPUTS = ("input", "context", "passage")
"""Names of a text that is appended to the prompt, as Alpaca's input."""
SYSTEMS = ("system", "system_prompt", "system_message")
SUFFIXES = ("text", "content", "message")


def role_of(column: str) -> str:
    """Return a column's name as `FAMILIES` has it: lower case, without _text and the like."""
    words = [word for word in re.split(r"[\W_]+", column.casefold()) if word]
    while len(words) > 1 and words[-1] in SUFFIXES and tuple(words[-2:]) != ("system", "message"):
        words.pop()
    return "_".join(words)
