from __future__ import annotations

import polars
import pytest

from schemas.texts._secret_rules import secret_rule_hint, secret_rules
from schemas.texts.secrets import find_secrets, secret_kinds

# Put together here, so that no scanner of repositories takes this file for a leak.
MIXED = "Qa7Rb8Sc9Td0Ue1Vf2Wg3Xh4Yi5Zj6Kk7Ll8Mm9Nn0Oo1Pp2Qq3Rr4Ss5Tt6Uu7Vv8Ww9Xx0Yy1Zz2Aa3Bb4Cc5"
MANY = MIXED * 3
HEXADECIMAL = "9f8e7d6c5b4a39281706f5e4d3c2b1a0" * 3
NEWER = [
    ("groq api key", "gsk_" + MIXED[:52]),
    ("xai api key", "xai-" + MANY[:80]),
    ("nvidia api key", "nvapi-" + MIXED[:64]),
    ("replicate api token", "r8_" + MIXED[:37]),
    ("linear api key", "lin_api_" + MIXED[:40]),
    ("atlassian api token", "ATATT3xFfGF0" + MANY[:180]),
    ("postman api token", "PMAK-" + HEXADECIMAL[:24] + "-" + HEXADECIMAL[:34]),
    ("dockerhub personal access token", "dckr_pat_" + MIXED[:27]),
    ("sentry user token", "sntryu_" + HEXADECIMAL[:64]),
    ("vercel personal access token", "vcp_" + MIXED[:56]),
]


@pytest.mark.parametrize(("name", "token"), NEWER)
def test_keys_of_newer_issuers_are_found_in_prose(name: str, token: str) -> None:
    for text in (f"My key is {token}.", f"KEY={token}\n", f'"{token}"'):
        assert secret_kinds(text) == (name,)
        assert find_secrets(polars.Series(["fine", text])) == [1]


@pytest.mark.parametrize(("name", "token"), NEWER)
def test_fillers_and_mentions_of_the_same_form_are_left_alone(name: str, token: str) -> None:
    prefix = token[:4]
    assert secret_kinds(prefix + "x" * (len(token) - 4)) == ()
    assert secret_kinds(f"{prefix} is what a {name} begins with") == ()


def test_names_in_code_are_no_keys() -> None:
    for text in ("lip_sync_animation_controller_node()", "prf_some_rather_long_function_name = 1"):
        assert secret_kinds(text) == ()


def test_every_rule_compiles_and_its_hint_is_in_the_search() -> None:
    rules = secret_rules()
    assert len(rules) > 100
    assert len({rule.name for rule in rules}) == len(rules)
    texts = polars.Series([literal for rule in rules for literal in rule.literals])
    assert texts.str.contains(secret_rule_hint()).all()
    for rule in rules:
        assert rule.pattern.search("") is None
