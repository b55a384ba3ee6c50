from __future__ import annotations

import pytest

from tasks.engine.markdown import code, code_block, inline


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gain +0.775 [+0.694, +0.851] of loss_below_base", None),
        ("<script>x</script> & <b>", "&lt;script&gt;x&lt;/script&gt; &amp; &lt;b&gt;"),
        ("![x](javascript:alert(1))", "![x]\\(javascript:alert(1))"),
        ("see https://host/x or www.host.org", "see https\\://host/x or www\\.host.org"),
        ("**a** ~~b~~", "\\*\\*a\\*\\* \\~\\~b\\~\\~"),
        ("a\n\n# heading\n| cell |", "a # heading \\| cell \\|"),
        ("`\\`", "\\`\\\\\\`"),
        ("\x1b[31m\u202e", "\\u001b[31m\\u202e"),
    ],
)
def test_inline_text_is_shown_as_it_is(text: str, shown: str | None) -> None:
    assert inline(text) == (text if shown is None else shown)


def test_code_has_no_way_out() -> None:
    assert code("a`<b>`\nc") == "`a <b> c`"
    assert code("```") == "`-`"
    assert code_block("a\n``` b\n````") == "`````\na\n``` b\n````\n`````"
    assert code_block("a\x1b") == "```\na\\u001b\n```"
