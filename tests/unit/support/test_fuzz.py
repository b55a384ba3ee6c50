"""Any input is read or refused: quick here, for minutes with `make fuzz`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.config._errors import all_keys
from tests.support.fuzz import SEEDS, TARGETS, check_template_of, load_config_of, read_rows_of

pytestmark = pytest.mark.xdist_group("fuzz")

EXAMPLES = int(os.environ.get("SFT_FUZZ_EXAMPLES", "60"))
some = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
HOSTILE = st.sampled_from(
    ["\x1b[2J", "<script>", "{{ 7 * 7 }}", "<|im_end|>", "../../etc/passwd", "=1+1", "\u202e", "\0"]
)
TEXTS = st.text(max_size=20) | HOSTILE
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]), "content": VALUES}),
    max_size=3,
)
ROWS = VALUES | st.fixed_dictionaries({"messages": MESSAGES})
KEYS = st.sampled_from(sorted(all_keys())) | TEXTS
YAML = st.sampled_from(
    ["&a", "*a", "<<", "!!int", "!!python/name:os.system", "? ", ": ", "- ", "[", "]", "{", "}", "\n",
     "  ", "'", '"', "|", ">", "#", "%", "---", "1e9", "0x1", "~", "null", "true", "@", "`"]
)  # fmt: skip
JINJA = st.sampled_from(
    ["{{", "}}", "{%", "%}", "{#", "#}", "{% for m in messages %}", "{% endfor %}", "{% if x %}",
     "{% endif %}", "m", ".", "content", "role", "['role']", "|", "tojson", "trim", "(", ")", " ", "\n",
     "{% generation %}", "{% endgeneration %}", "{{ m.content }}", "{{ m.role }}", "loop.index", "+",
     "eos_token", "bos_token", "<|im_start|>", "<|im_end|>", "raise_exception('x')", "__class__", "-%}",
     "{% macro f() %}", "{% endmacro %}", "{% set x = 1 %}", "namespace(a=1)", "[::-1]", "/ 0", "none"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("target", "seed"),
    [(name, path) for name in TARGETS for path in sorted((SEEDS / name).iterdir())],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_inputs_that_were_found_are_survived(target: str, seed: Path) -> None:
    TARGETS[target](seed.read_bytes())


@some
@given(st.binary(max_size=1), st.binary(max_size=300) | st.lists(ROWS, max_size=4))
def test_any_file_is_read_or_refused(kind: bytes, content: bytes | list[object]) -> None:
    import json

    rows = content if isinstance(content, bytes) else "\n".join(map(json.dumps, content)).encode()
    read_rows_of(kind + rows)


@some
@given(
    st.sampled_from(["y", "t"]),
    st.lists(
        st.builds("{}: {}\n".format, KEYS, VALUES)
        | st.builds("{}={}\n".format, KEYS, VALUES)
        | YAML
        | TEXTS,
        max_size=12,
    ),
)
def test_any_configuration_is_read_or_refused(kind: str, parts: list[str]) -> None:
    load_config_of((kind + "".join(parts)).encode("utf-8", errors="ignore"))


@some
@given(st.lists(JINJA | TEXTS, max_size=15))
def test_any_template_keeps_the_contract_or_is_refused(parts: list[str]) -> None:
    check_template_of("".join(parts).encode("utf-8", errors="ignore"))
