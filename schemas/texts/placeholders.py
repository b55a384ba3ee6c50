"""Find placeholders of templates that were not filled in."""

from __future__ import annotations

import re

_PLACEHOLDER = re.compile(
    r"""
    ```[\s\S]*?(?:```|\Z)            # anything is allowed in code
    |`[^`\n]*`
    |(?P<found>
      # {{name}}, {{ user.name }}, {{Order Number}}, {{#if name}}. Not LaTeX, whose doubled braces
      # follow a command, an index or a brace; nor ${{ }} of GitHub, nor ={{ }} of JSX and BibTeX.
      (?<![\w\\^_{}$=])(?<!=[ ])\{\{[-~\#/>^&]?[\x20\t]*\.?[A-Za-z_]\w[\w\x20.'’\[\]-]{0,60}
        (?:\|[^{}\n]{1,60})?\}\}
      |\{%[-+]?\s*(?:if|elif|else|endif|for|endfor|set|block|endblock|extends|include|macro
        |endmacro|raw|endraw|with|endwith|import|from|call|filter)\b[^{}\n]{0,200}%\}
      # <your answer>, <insert name>, <text here>; a hyphen makes an element of HTML.
      |(?<!\w)<(?:your|insert|enter|add|type|put|fill\ in|replace\ with)[ _][^<>\n="/]{1,40}>
      |(?<!\w)<(?:[A-Za-z][\w\x20']{0,40}[ _])?here>
      # [INSERT NAME], [Your Name]; not a link, an index or a list.
      |(?<![\w\])\\])\[(?:insert|your|fill\ in)[ _][^\[\]\n()="]{1,60}\](?![\[(:])
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""`${NAME}` and `%s` are not looked for: they are code, and frequent in it."""
_FIELDS = "instruction|input|text|question|context|query|passage|document|article|prompt|user_input"
_FIELD = re.compile(rf"(?:^|(?<=[\s:]))(?P<found>\{{(?:{_FIELDS})\}})(?=\s|\Z)")
_CODE_OR_TEMPLATE = re.compile(
    r"```|`|\b(?:template|placeholder|variable|f-string|format|print|def|function|return|LaTeX|import)\b|=|\w\("
    r"|[\"']\{|\\\w|\{[^{}]*[:;\n]",
    re.IGNORECASE,
)
"""A name in single braces may be code, or a text about templates."""
PLACEHOLDER_HINT = (
    rf"\{{(?:{_FIELDS})\}}|"
    r"\{\{[-~#/>^&]?\s*\.?[A-Za-z_]|\{%[-+]?\s*[A-Za-z]"
    r"|(?i:<(?:your|insert|enter|add|type|put|fill in|replace with)[ _]|[< _]here>"
    r"|\[(?:insert|your|fill in)[ _])"
)


def find_placeholder(text: str, *, is_prompt: bool = True) -> str:
    """Find the first placeholder; a name in single braces only counts in prompts, whose fields are known."""
    found = next((match for match in _PLACEHOLDER.finditer(text) if match["found"]), None)
    if not found and is_prompt and not _CODE_OR_TEMPLATE.search(text):
        found = _FIELD.search(text)
    return found["found"] if found else ""
