"""Secrets in text and in errors."""

from __future__ import annotations

import json
import traceback
from base64 import b64encode
from itertools import count
from urllib.parse import quote

import pytest

from schemas.errors import DataSourceError, ServiceUnreachable
from schemas.redaction import clean_errors, has_credentials, redact, visible

CANARY = "canary-hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"API request to http://ada:{CANARY}@mlflow:5000/api failed", "http://mlflow:5000/api"),
        (f"'https://u:p/w?{CANARY}@host:80/x'", "'https://host:80/x'"),
        (f"https://u:p@{CANARY}@host/a@b.jsonl", "https://host/a@b.jsonl"),
        (f"url: /rows.jsonl?X-Amz-Signature={CANARY} (Caused by", "url: /rows.jsonl (Caused by"),
        (f'http://host:80 "GET /rows?sig={CANARY} HTTP/1.1" 403', '"GET /rows HTTP/1.1" 403'),
        (f"rows.jsonl&se=1&sig={CANARY}&x=2", "rows.jsonl&se=1&sig=***&x=2"),
        (f"host=db user=ada password={CANARY} port=1", "host=db user=ada password=*** port=1"),
        (f"{{'Authorization': 'Basic {CANARY}'}}", "{'Authorization': '***'}"),
        (f"postgresql+psycopg2://ada:{CANARY}@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        (f"https://ada:{CANARY}@[::1]:5000/a@b", "https://[::1]:5000/a@b"),
        (f"https://{CANARY}@host/x", "https://host/x"),
        (f"https://host:80?x={CANARY}@b", "https://host:80"),
        (f"s3://b/part-?.jsonl?sv=1&sig={CANARY}", "s3://b/part-?.jsonl"),
        (f"https://a/b?sv&sig={CANARY} c", "https://a/b c"),
        (f"https://a/b#access_token={CANARY} c", "https://a/b#access_token=*** c"),
        (f"Authorization: Bearer {CANARY} x", "Authorization: *** x"),
        (f"authorization={CANARY}", "authorization=***"),
        (f"Authorization: {CANARY}", "Authorization: ***"),
        (
            f"Authorization: AWS4-HMAC-SHA256 Credential=A, Signature={CANARY} x",
            "Authorization: *** x",
        ),
    ],
    ids=count(),  # pytest puts the id into the environment, which is searched for passwords
)
def test_redact_removes_what_lets_in(text: str, shown: str) -> None:
    assert shown in redact(text)
    assert CANARY not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://, s3:// or another address",
        "models:/faq@champion has 3 rows; why? because@home",
        '{"a":"https://host/b","c":"x@y"}',
        "https://host:8080/a@b.jsonl",
        "http://127.0.0.1:5000/#/experiments/1/runs/2",
        "eos_token=2, pad token: 3",
        "sqlite:////work/.sft/mlflow.db",
        "https://[::1]:5000/a@b",
        "s3://b/part-?.jsonl and s3://b/year=?/month=1/a@b",
        "is it at https://host/x? Yes, or https://host? No",
        "GET /x? Yes",
        "Authorization: see the docs",
        "#key=3",
        "the secret: none, the cookie: no, 'token': '<|end|>'",
    ],
)
def test_redact_leaves_other_text_alone(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "part",
    ["w", "a://b:c", "a://b?c", "&key", "a://b?c=", "?a", "#token", "url: /a", "Authorization"],
)
def test_redact_reads_long_text_once(part: str) -> None:
    """Work that grew with the square of the length would take hours."""
    n_repeats = 200_000 // len(part)
    assert redact(f"{part * n_repeats} end").endswith(" end")
    assert redact(f"{part * n_repeats} https://ada:{CANARY}@host").endswith(" https://host")


@pytest.mark.parametrize(
    ("variable", "value", "secret"),
    [
        ("MLFLOW_TRACKING_PASSWORD", CANARY, CANARY),
        ("HF_TOKEN", "hf_canary", "hf_canary"),
        ("MLFLOW_TRACKING_URI", "http://ada:p%40ssword@host", "p@ssword"),
        ("MLFLOW_TRACKING_URI", "http://ada:p%40ssword@host", "p%40ssword"),
        ("POSTGRES_URL", "postgresql://ada:canary%21long@db/x?y=1", "canary!long"),
    ],
)
def test_redact_knows_the_secrets_of_the_environment(
    variable: str, value: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert redact(f"login as ada with {secret} failed") == "login as ada with *** failed"
    assert redact(f"x{secret}x") == f"x{secret}x"


@pytest.mark.parametrize(
    "variable",
    [
        "DB_PASS",
        "MYSQL_PWD",
        "GITHUB_PAT",
        "SIGNING_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "OPENAI_APIKEY",
        "API_KEYS",
        "HF_TOKEN_2",
        "HF_TOKENS",
        "SSH_PASSPHRASE",
    ],
)
def test_redact_knows_variables_that_are_named_like_secrets(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, CANARY)
    assert redact(f"got {CANARY}.") == "got ***."


@pytest.mark.parametrize("variable", ["PWD", "OLDPWD", "KEYBOARD", "PASSES", "TOKENIZERS_HOME"])
def test_redact_leaves_other_variables_alone(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/home/ada/work1")
    assert redact("in /home/ada/work1") == "in /home/ada/work1"


@pytest.mark.parametrize(
    "secret", ['pass "w0rd" é\\1', "a\x1bcanary77", "cañary/77 @x", "ada:canary7"]
)
def test_redact_knows_each_form_of_a_secret(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_PASSWORD", secret)
    forms = [secret, repr(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False)]
    forms += [quote(secret), quote(secret, safe=""), b64encode(secret.encode()).decode()]
    for form in forms:
        assert redact(f"x {form} y").replace("***", "").strip("x y\"'") == ""


def test_redact_finds_a_secret_behind_an_escape_and_in_a_longer_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHORT_TOKEN", "hf_canary")
    assert redact(repr("a\nhf_canary")) == "'a\\n***'"
    assert redact("Bearer%20hf_canary") == "Bearer%20***"
    monkeypatch.setenv("LONG_TOKEN", "hf_canary_of_24_letters_")
    assert redact("id_hf_canary_of_24_letters_2") == "id_***2"


def test_redact_finds_each_line_of_a_secret_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["-----BEGIN PRIVATE KEY-----", "MIIEcanaryAAAABBBBCCCC"]
    monkeypatch.setenv("SIGNING_KEY", "\n".join(lines))
    assert "canary" not in redact(f"read\n  {lines[1]}\n")
    assert "canary" not in redact(repr("\n".join(lines)))


@pytest.mark.parametrize(
    "text",
    [
        f"(b'Authorization', b'Bearer {CANARY}')",
        f"('authorization', 'Basic {CANARY}')",
        f"X-Api-Key: {CANARY}7",
        f"'api-key': '{CANARY}'",
        f"Set-Cookie: session={CANARY}7; Path=/",
        f'{{"password": "{CANARY}"}}',
        f"{{'client_secret': '{CANARY}'}}",
        f"api_key={CANARY}",
    ],
    ids=count(),
)
def test_redact_removes_credentials_from_printed_headers_and_settings(text: str) -> None:
    assert CANARY not in redact(text)


@pytest.mark.parametrize(
    ("text", "has_some"),
    [
        (f"https://ada:{CANARY}@host/x", True),
        ("https://host/x?X-Amz-Signature=1&x=2", True),
        ("https://host/x?format=jsonl&se=1&sig=ab", True),
        ("https://host/x?format=jsonl", False),
        ("https://host:8080/a@b.jsonl", False),
        ("owner/name@main", False),
    ],
    ids=count(),
)
def test_addresses_with_credentials_are_known(text: str, has_some: bool) -> None:
    assert has_credentials(text) is has_some


def test_every_part_of_an_error_is_clean() -> None:
    text = f"http://ada:{CANARY}@host"
    error = DataSourceError(text, where=text, expected=text, got=text, fix=text)
    assert CANARY not in str(error) + repr(error)
    assert str(error).count("http://host") == 5


class WebError(Exception):
    """As aiohttp's ClientResponseError: its text is not made of its arguments."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.parts = [url]

    def __str__(self) -> str:
        return f"403, url={self.parts[0]!r}"


def fail() -> None:
    address = f"https://host/rows.jsonl?sig={CANARY}"
    try:
        try:
            try:
                raise WebError(address)
            except WebError as error:
                error.add_note(f"while reading {address}")
                raise FileNotFoundError(address) from error
        except OSError as error:
            raise ConnectionError(ValueError(f"GET {address}"), 7) from error
    except OSError:
        raise ServiceUnreachable("no answer", where=address)  # noqa: B904 - as libraries do


def test_traceback_of_chained_errors_is_clean() -> None:
    with pytest.raises(ServiceUnreachable) as caught, clean_errors():
        fail()
    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY not in shown
    assert "403, url='https://host/rows.jsonl'" in shown
    assert "while reading https://host/rows.jsonl" in shown
    assert shown.count("https://host/rows.jsonl") >= 4
    assert "in fail" in shown


def test_clean_errors_ends_with_errors_that_refer_to_each_other() -> None:
    first, second = ValueError(f"http://a:{CANARY}@b"), OSError(2, "gone", f"http://a:{CANARY}@b")
    first.__context__, second.__context__ = second, first
    with pytest.raises(ValueError, match="http://b"), clean_errors():
        raise first
    assert CANARY not in str(second)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\u001b[2J\\u001b]0;title\\u0007"),
        ("\x9b31m", "\\u009b31m"),
        ("one\rtwo\x08\x7f", "one\\u000dtwo\\u0008\\u007f"),
        ("one\r\ntwo\tthree\n", "one\ntwo\tthree\n"),
        ("safe\u202egpj.exe", "safe\\u202egpj.exe"),
        ("\ufeff\u200b\xad", "\\ufeff\\u200b\\u00ad"),
        ("\udcff\U000e0041", "\\udcff\\udb40\\udc41"),
        ("na\u0308ive \u4f60\u597d \xa0 \U0001f468\u200d\U0001f469", None),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)
    assert redact(text) == visible(text)


def test_error_shows_no_escape_code_of_its_parts() -> None:
    error = DataSourceError("\x1b[31m", where="\x1b", expected="\x1b", got="\x1b", fix="\x1b")
    assert "\x1b" not in str(error) + repr(error)
    assert "\x1b" not in "".join(traceback.format_exception(error))


def test_secret_that_escape_codes_split_is_removed() -> None:
    assert CANARY not in redact(f"https://ada:{CANARY}\x1b[0m@host/x")
