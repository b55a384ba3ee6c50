"""Markers by which chat templates of the model families structure a conversation.

A tokenizer reads such a marker in the content of a message as the token itself: the message ends
early, or another role seems to speak. Delimiters that neither end nor begin a turn, such as those of
a thought or of a call, are text: people train models to write them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

SPECIAL_MARKERS: dict[str, tuple[str, ...]] = {
    family: tuple(markers.split())
    for family, markers in (
        ("ChatML, Qwen, Yi", "<|im_start|> <|im_end|> <|im_sep|> <|endoftext|>"),
        (
            "Vision",
            "<|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|> <|box_start|> <|image|> "
            "<|audio|> <|video|> <|patch|>",
        ),
        ("Llama 2, Mistral", "[INST] [/INST] <<SYS>> <</SYS>>"),
        (
            "Llama 3, Llama 4",
            "<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> "
            "<|header_start|> <|eot_id|> <|eom_id|> <|eot|> <|eom|> <|python_tag|> "
            "<|finetune_right_pad_id|> <|reserved_special_token_0|>",
        ),
        (
            "Mistral tools",
            "[AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_CALLS] [TOOL_RESULTS] "
            "[/TOOL_RESULTS] [TOOL_CONTENT] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [IMG_BREAK] "
            "[IMG_END]",
        ),
        ("Gemma 1 to 3", "<start_of_turn> <end_of_turn> <start_of_image> <bos> <eos>"),
        ("Gemma 4", "<|turn> <turn|> <|channel> <channel|> <|tool> <tool|>"),
        ("Idefics, SmolVLM", "<end_of_utterance>"),
        ("Phi, Zephyr, GLM", "<|system|> <|user|> <|assistant|> <|tool|> <|end|> <|observation|>"),
        ("DeepSeek", "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜>"),
        (
            "gpt-oss harmony",
            "<|start|> <|message|> <|channel|> <|constrain|> <|return|> <|call|> <|final|>",
        ),
        (
            "Command R",
            "<|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|> "
            "<|SYSTEM_TOKEN|> <|START_RESPONSE|> <|END_RESPONSE|> <BOS_TOKEN> <EOS_TOKEN>",
        ),
        ("Granite", "<|start_of_role|> <|end_of_role|>"),
        ("OpenChat, Falcon, Kimi", "<|end_of_turn|> <|im_middle|> <|im_user|>"),
        ("OpenAssistant, H2O", "<|prompter|> <|prompt|>"),
        ("EXAONE", "[|system|] [|user|] [|assistant|] [|endofturn|]"),
        ("ChatGLM, InternLM", "[gMASK] <sop> <eop> <eoh> <eoa>"),
        ("Seed-OSS", "<seed:bos> <seed:eos>"),
        ("MiniMax", "]~b] ]~!b[ [e~["),
        (
            "StarCoder, SmolLM, Code Llama (fill in the middle)",
            "<fim_prefix> <fim_middle> <fim_suffix> <fim_pad> <file_sep> <repo_name> "
            "<gh_stars> <jupyter_start> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> "
            "<|repo_name|> <|file_sep|>",
        ),
        ("Llama, Vicuna, T5 (sentencepiece)", "<s> </s> <pad> <unk> <extra_id_0>"),
        ("Gemma, Baichuan, Nemotron (spare)", "<unused0> <reserved_106> <SPECIAL_10>"),
    )
}
"""By family. BERT's [CLS], [SEP] and [MASK], [IMG], and plain words such as "### Response:" are not
listed: they occur in ordinary text, and count only if the tokenizer of the model lists them."""

_CONTENT = re.compile(
    r"\[/?THINK\]|(?:[<◁]|<[|｜])/?[\w▁:-]*(?:think|thought|reason|reflect|solution|answer|tool(?:▁"
    r"|_?(?:call|response|output|result|list|use)))[\w▁:-]*[|｜]?[>▷]",
    re.IGNORECASE,
)
"""Delimiters of thoughts, answers, calls and their results: reasoning and tool-using models write them
as content, so they never count, even if the tokenizer lists them."""

_BOUND = "start|begin|end|im|eo|bo"
_SPEAKER = (
    "system|user|assistant|human|bot|chatbot|gpt|developer|observation|ipython|turn|role|header"
    "|message|msg|utterance|dialogue|dialog|conversation|text|sentence|sequence|document|response"
)
_NAME = (
    rf"(?i:(?:(?:{_BOUND})_(?:of_)?)?(?:{_SPEAKER})(?:_(?:{_BOUND}|id|token|turn|header|message))*)"
    r"|(?i:eo[tmsd]|bo[tsd]|endof\w{2,12}|pad|unk|sep|cls|mask)(?i:_id|_token)?"
    r"|(?:fim|reserved|extra|dummy|placeholder|unused|SPECIAL)_?\w{0,30}"
)
"""What stands between the bars of a token that opens or ends a turn, in families not listed too."""
_SHAPES = (
    rf"<\|(?:{_NAME})\|>",
    r"<｜[\w▁.:/-]{1,60}｜>",
    r"\[\|(?:system|user|human|assistant|tool|endofturn)\|\]",
    r"<(?:unused|extra_id_|reserved_|SPECIAL_|TOKENS_UNUSED_)[0-9]{1,6}>",
)
"""New families use the shape `<|name|>`, so it counts with every name that is a turn's."""
_SENTENCE_MARKS = ("<s>", "</s>")
_SHAPED = re.compile("|".join(_SHAPES))
_LISTED = tuple(
    marker
    for markers in SPECIAL_MARKERS.values()
    for marker in markers
    if marker not in _SENTENCE_MARKS and not _SHAPED.fullmatch(marker)
)
_NUMBER = re.compile("[0-9]+")
_LEAST_NUMBERED_TOKENS = 16
_SENTENCE_MARK = re.compile("</?s>")


def find_special_marker(text: str, special_tokens: Sequence[str] = ()) -> str | None:
    """Find the first marker in a text; None if there is none.

    `<s>` and `</s>` are struck-through text in HTML as well: unless `special_tokens`, those of the
    model's tokenizer, contain them, a closed pair around a part of the text is legal.
    """
    found = _marker_pattern(tuple(special_tokens)).finditer(text)
    markers = (match.group() for match in found)
    return next(filter(_is_no_content, markers), None) or _stray_sentence_mark(text)


def _is_no_content(marker: str) -> bool:
    return not _CONTENT.fullmatch(marker)


def special_marker_hint(special_tokens: Sequence[str] = ()) -> str:
    """Build a regular expression without look-around, in Rust's syntax, that every text with a marker matches."""
    shapes = r"<[|｜][0-9A-Za-z_]", r"\[\|[aehstu]", _SHAPES[-1], "</?s>"
    return "|".join((*shapes, *_expressions(tuple(special_tokens))))


@lru_cache(maxsize=8)
def _marker_pattern(special_tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join((*_expressions(special_tokens), *_SHAPES)))


def _expressions(special_tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Build the expressions to search for, longest first, for Python and Rust alike.

    A token of letters, digits and white space alone cannot be distinguished from text. Numbered tokens, of
    which some models have thousands, are merged: each on its own made the search 30 times slower.
    """
    given = {
        token
        for token in special_tokens
        if not _CONTENT.fullmatch(token)
        and not _SHAPED.fullmatch(token)
        and not all(character.isalnum() or character.isspace() for character in token)
    }
    tokens = sorted(given.union(_LISTED), key=lambda token: (-len(token), token))
    series = Counter(map(_without_number, tokens))
    expressions = (
        _NUMBER.sub("[0-9]+", _escaped(token))
        if series[_without_number(token)] >= _LEAST_NUMBERED_TOKENS
        else _escaped(token)
        for token in tokens
    )
    return tuple(dict.fromkeys(expressions))


def _without_number(token: str) -> str:
    return _NUMBER.sub("0", token)


def _escaped(token: str) -> str:
    """Escape what both regular expression languages treat as an operator."""
    return re.sub(r"([\\.^$*+?()\[\]{}|])", r"\\\1", token)


def _stray_sentence_mark(text: str) -> str | None:
    marks = _SENTENCE_MARK.findall(text)
    if not marks:
        return None
    bare = text.strip()
    is_paired = marks == list(_SENTENCE_MARKS) * (len(marks) // 2)
    encloses_all = bare.startswith("<s>") and bare.endswith("</s>") and len(marks) == 2
    return None if is_paired and not encloses_all else marks[0]
