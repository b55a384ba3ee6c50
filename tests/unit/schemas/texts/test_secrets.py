from __future__ import annotations

import re

import polars as pl
import pytest

from schemas.rule_ids import RowRule
from schemas.rules._text_rules import describe_text
from schemas.texts._secret_tokens import SecretKind
from schemas.texts.secrets import SECRET_KINDS, find_secrets, secret_kinds

# Put together here, so that no scanner of repositories takes this file for a leak.
MIXED = "Qa7Rb8Sc9Td0Ue1Vf2Wg3Xh4Yi5Zj6Kk7Ll8Mm9Nn0Oo1Pp2Qq3Rr4Ss5Tt6Uu7Vv8Ww9Xx0Yy1Zz2Aa3Bb4Cc5"
HEXADECIMAL = "9f8e7d6c5b4a39281706f5e4d3c2b1a0" * 2
KEY_BODY = (MIXED + MIXED)[:64]

FOUND = [
    ("private key", f"-----BEGIN RSA PRIVATE KEY-----\n{KEY_BODY}\n-----END"),
    ("private key", f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{KEY_BODY}"),
    ("private key", f'{{"private_key": "-----BEGIN PRIVATE KEY-----\\n{KEY_BODY}"}}'),
    ("AWS access key", "id=" + "AKIA" + "Q7RB6SC2TD4UE3VF"),
    ("AWS secret key", "aws_secret_access_key = " + MIXED[:40]),
    ("GitHub token", "ghp_" + MIXED[:36]),
    ("GitHub token", "github_pat_" + MIXED[:22] + "_" + MIXED[:59]),
    ("GitLab token", "glpat-" + MIXED[:20]),
    ("Slack token", "xoxb-" + "730191371882-" + MIXED[:24]),
    ("Slack token", "https://hooks.slack.com/services/" + "T02AB7CD9/B03EF1GH5/" + MIXED[:24]),
    ("Stripe key", "sk_live_" + MIXED[:24]),
    ("Google key", "key=" + "AIza" + MIXED[:35]),
    ("OpenAI key", "sk-proj-" + MIXED[:40] + "T3BlbkFJ" + MIXED[:40]),
    ("OpenAI key", "sk-" + MIXED[:48]),
    ("Anthropic key", "sk-ant-api03-" + MIXED[:80]),
    ("Hugging Face token", "hf_" + MIXED[:34]),
    ("package registry token", "npm_" + MIXED[:36]),
    ("package registry token", "pypi-AgEIcHlwaS5vcmc" + MIXED[:60]),
    ("service token", "SG." + MIXED[:22] + "." + MIXED[:43]),
    ("service token", "730191371:AA" + MIXED[:33]),
    ("JSON web token", "Bearer eyJ" + MIXED[:20] + ".eyJ" + MIXED[:30] + "." + MIXED[:43]),
    ("Azure key", "AccountKey=" + MIXED[:86] + "=="),
    ("password in an address", "postgres://anna:Zx81-kk@db.firma.se/rows"),
    ("password in a connection string", "Server=db.firma.se;Uid=anna;Pwd=Zx81-kk;"),
    ("assigned secret", f'client_secret: "{MIXED[:32]}"'),
    ("assigned secret", f'API_KEY = "{HEXADECIMAL[:32]}"'),
    ("card number", "4539 1488 0343 6467"),
    ("card number", "my card 4539148803436467, 12/27"),
    ("card number", "3782-822463-10021"),
    ("IBAN", "GB33BUKB20201555555555"),
    ("IBAN", "to SE35 5000 0000 0549 1000 0003 by Friday"),
    ("US social security number", "SSN 536-90-4399."),
    ("e-mail address", "Write to anna.svensson@firma.se."),
    ("e-mail address", "请发到anna@firma.cn谢谢"),
    ("e-mail address", "anna@räksmörgås.se"),
    ("phone number", "Call +46 70 399 81 67."),
    ("phone number", "电话：+86 138 0013 8000。"),
    ("phone number", "(212) 867-5309"),
    ("phone number", "212.867.5309"),
    ("phone number", "- 08-653 98 71"),
    ("phone number", "070-399 81 67"),
    ("phone number", "07911 863 952"),
    ("phone number", "06 98 41 73 20"),
    ("phone number", "0171/9836520"),
    ("phone number", "llame al móvil 612 345 678"),  # Spain
    ("phone number", "Tel. 06 6982 1234"),  # Italy
    ("phone number", "bel 06-21234567"),  # Netherlands
    ("phone number", "telefon 512 345 678"),  # Poland
    ("phone number", "call 098123 45678"),  # India
    ("phone number", "(11) 96123-4567"),  # Brazil
    ("phone number", "03-3210-7000"),  # Japan
    ("phone number", "0412 345 678"),  # Australia
    ("IBAN", "UA213223130000026007233566001"),
    ("IBAN", "BY13NBRB3600900000002Z00AB00"),
    ("IBAN", "CR05015202001026284066"),
    ("IBAN", "VA59001123000012345678"),
    # Explained, and made up: a form cannot tell.
    (
        "private key",
        "A key begins with -----BEGIN RSA PRIVATE KEY----- and ends with -----END RSA PRIVATE KEY-----",
    ),
    ("phone number", "+1 234 567 8900"),
]

LEGAL = [
    "",
    # explanations, samples and placeholders
    "-----BEGIN PUBLIC KEY-----\n" + KEY_BODY,
    "ghp_" + "x" * 36,
    "sk-" + "x" * 48,
    "sk_test_" + MIXED[:24],
    "hf_your_token_goes_here_" + "a" * 20,
    "eyJ" + MIXED[:20] + ".eyJzdWIiOiIxMjM0NTY3ODkwIiwi." + MIXED[:43],
    "postgres://user:password@localhost/rows",
    "postgres://anna:${PASSWORD}@db.firma.se/rows",
    'password = "secret"',
    'token = "get_authentication_token_of_user"',
    "Server=db.firma.se;Uid=anna;Pwd=myPassword;",
    "Server=127.0.0.1;Uid=anna;Pwd=Zx81-kk;",
    # published samples
    "AKIA" + "IOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY",
    "4111 1111 1111 1111",
    "4242-4242-4242-4242",
    "378282246310005",
    "4000000000009995",
    "DE89 3704 0044 0532 0130 00",
    "GB82 WEST 1234 5698 7654 32",
    "123-45-6789",
    "078-05-1120",
    "anna@example.com",
    "anna@mail.example.org",
    "anna@firma.test",
    "anna@example.co.uk",
    "(212) 555-0199",
    "+1-202-555-0173",
    "call 020 7946 0958",
    "+44 1632 960001",
    "+61 491 570 006",
    # cards: test numbers, a wrong digit, amounts and sums, no issuer
    "4539148803436468",
    "4539148803436467 * 2",
    "1234567890123456",
    "3.14159265358979",
    "1700000000000000000",
    # accounts: the sample, a wrong digit, no such country
    "GB33BUKB20201555555556",
    "ZZ33BUKB20201555555555",
    # social security: samples, areas that are not given out
    "000-12-3456",
    "900-12-3456",
    # e-mail: reserved names, roles, code and files
    "info@firma.se",
    "git@github.com:firma/rows.git",
    "icon@2x.png",
    "@angular/core@12.0",
    "x = a@b.shape",
    "q@k.to(device)",
    "@anna@mastodon.social",
    # phone: fiction, arithmetic, dates, other numbers
    "1200 - 350 = 850",
    "+99 1234567 89",
    "+1 555 010 9999",
    "+44 7700 900123",
    "in 612 345 678 cases",
    "01-02-2023 10:30",
    "on 05 06 2023 at 07 30",
    "steps 01 02 03 04 05 06",
    "UA213223130000026007233566002",
    "450-200-1000 = -750",
    "12 + 12345678901",
    "+1.23456789",
    "GMT +1 2023-01-15",
    "UTC +2 2023-01-15",
    "2023-01-15, 15/01/2023, 15.01.2023, 1999-2004",
    "ISBN 978-0-306-40615-7",
    "192.168.100.200 and 10.0.0.1:8080",
    "version 1.2.3-4 of 10:07:12",
    "1 000 000 000 SEK",
    "从1200减去350等于850。",
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_secret_kinds_names_the_kind(kind: str, text: str) -> None:
    assert kind in secret_kinds(text)
    assert find_secrets(pl.Series(["nothing", text])) == [1]


@pytest.mark.parametrize("text", LEGAL)
def test_secret_kinds_leaves_legal_neighbours_alone(text: str) -> None:
    assert secret_kinds(text) == ()


def test_secret_kinds_lists_several_in_the_order_of_definition() -> None:
    text = "+46 70 399 81 67, anna@firma.se, 4539 1488 0343 6467"
    assert secret_kinds(text) == ("card number", "e-mail address", "phone number")


def test_every_kind_has_an_example() -> None:
    assert {kind for kind, _text in FOUND} == {kind.name for kind in SECRET_KINDS}


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_description_holds_nothing_of_the_text(kind: str, text: str) -> None:
    described = describe_text(RowRule.SECRET_OR_PII, text)
    names = {each.name for each in SECRET_KINDS}
    assert set(described.split(", ")) <= names
    assert not any(
        part in described for part in re.findall(r"[\w@.+-]{5,}", text) if part != "token"
    )
    assert kind in described


LONG_LINES = [
    "a",
    "1",
    "1 ",
    "1-",
    "+1 ",
    "a@",
    "a.",
    "eyJ",
    "A.b:/",
    "server=;a;",
    "sk-a",
    "token",
    "A1B2 ",
]


@pytest.mark.parametrize("kind", SECRET_KINDS, ids=lambda kind: kind.name)
def test_patterns_take_linear_time(kind: SecretKind) -> None:
    """Quadratic ones would run for an hour on a line of this length."""
    for piece in LONG_LINES:
        assert not any(map(kind.is_real, kind.pattern.finditer(piece * 100_000)))


@pytest.mark.parametrize("unit", ["1415926535", "token_", "secret-token"])
def test_secrets_are_looked_for_in_linear_time(unit: str) -> None:
    text = ("0" + unit * 40_000)[:200_000]
    assert find_secrets(pl.Series([text, "fine"])) == []
