"""What a message must not contain: secrets, and characters that a terminal obeys instead of showing.

Secrets are passwords and signatures of addresses, and credentials of requests.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from urllib.parse import quote, unquote

SCHEME_END = r"[\w+.-]://"
NAME_VALUE = r"(?=[\w.%~$+&;-]+=)"
"""After a question mark: a query. Otherwise it is a wildcard, or ends a sentence."""
NO_PORT = rf"(?!\d*(?:/|$|\s|\?{NAME_VALUE}))"
"""After the colon of an address: what follows is a password, not a port."""
USER_INFO = re.compile(
    rf'({SCHEME_END})(?:[^\s/:@"<>\[\]]*:{NO_PORT}[^\s@"<>]{{0,500}}@)?(?:[^\s/?#"<>]*@)?'
)
"""User info ends at the first slash, unless what follows a colon is no port: a raw password."""
QUERY = re.compile(rf"({SCHEME_END}(?:(?!://)[^\s\"<>])*?)\?{NAME_VALUE}[^\s\"'<>]*")
REQUEST_QUERY = re.compile(
    r"((?:\burl: |\b(?:DELETE|GET|HEAD|PATCH|POST|PUT) )/[^\s?\"]*)"
    rf"\?{NAME_VALUE}[^\s\"'<>]*"
)
"""An address without its scheme and server, as urllib3 logs it."""
PARAMETER = re.compile(
    r"((?:[?&;]|#(?=\w{0,60}token=))"
    r"[\w.-]{0,60}(?:credential|key|passw|pwd|secret|sig|token)[\w.-]{0,60}=)[^\s&;\"'<>]+",
    re.IGNORECASE,
)
ASSIGNMENT = re.compile(
    r"(?i)\b((?:passw(?:or)?d|pwd|(?:client_)?secret|api_?key|(?:access|refresh)_token|account_?key)"
    r"""(?:=|['"]\s*:\s*b?['"]))[^\s&;,"'<>]+"""
)
"""In a connection string, or in settings that were printed."""
HEADER = re.compile(
    r"""(?i)\b((?:authorization|cookie|(?:x-)?(?:api-key|auth-token))"""
    r"""(?:['"]?\s*[:=]|['"]\s*,)\s*(?:b?['"])?)"""
    r"(?:(?:basic|bearer|digest|token|negotiate|ntlm|oauth|apikey|sharedkey|aws4-hmac-sha256)\s+"
    r"""[^\s'",}]+(?:,\s*\w+=[^\s'",}]+)*"""
    r"""|(?<=['"=])[^\s'",}]+(?=['"\s,}]|$)"""
    r"""|(?=[^\s'",}]{0,100}\d)[^\s'",}]{8,}|[^\s'",}]{20,})"""
)
"""A header with a kind and a value, or a value alone that is quoted, has a digit, or is long."""
HIDDEN = "***"
SECRET_VARIABLE = re.compile(
    r"(?i)(passw(or)?d|passphrase|_(pass|pwd|pat)|secrets?|tokens?|(_|api)keys?|auth_string)(_?\d+)?$"
)
MIN_SECRET_CHARACTERS = 8
"""Shorter values of variables are not searched for: they may be ordinary words."""
MIN_LONG_CHARACTERS = 16
"""A value as long is no part of a word: it is also removed from the middle of one."""
ESCAPES = r"\\[nrt]", r"\\u[0-9a-f]{4}", "%[0-9A-Fa-f]{2}"
"""May precede a value, with a letter or digit at their end."""
URL_PASSWORD = re.compile(rf"://[^\s/:@\[\]]*:{NO_PORT}([^\s@]+)@")
JOINERS = "\u200c\u200d"
"""Of Persian, Indic scripts and emoji."""


def visible(text: str) -> str:
    r"""Write out control, format, private and unassigned characters, e.g. an escape code as `\u001b`.

    Tab, line feed and joiners stay.
    """
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        character if character in "\t\n" + JOINERS else _written_out(character)
        for character in text.replace("\r\n", "\n")
    )


def _written_out(character: str) -> str:
    if unicodedata.category(character)[0] != "C":
        return character
    units = character.encode("utf-16-be", errors="surrogatepass")
    return "".join(
        f"\\u{units[place]:02x}{units[place + 1]:02x}" for place in range(0, len(units), 2)
    )


def redact(text: str) -> str:
    """Remove every secret from a message, and write out what a terminal would obey.

    These are user info and query of each address, credentials in a request or a connection string,
    and the values of environment variables that hold a password or a token.
    """
    text = strip_addresses(visible(text))
    if "=" in text:
        text = REQUEST_QUERY.sub(r"\1", text)
        text = PARAMETER.sub(rf"\1{HIDDEN}", text)
    if not {":", "=", ","}.isdisjoint(text):
        text = ASSIGNMENT.sub(rf"\1{HIDDEN}", text)
        text = HEADER.sub(rf"\1{HIDDEN}", text)
    for secret in secrets_of_environment():
        for form in _forms(secret):
            if form in text:
                text = _pattern(form).sub(HIDDEN, text)
    return text


@cache
def _forms(secret: str) -> tuple[str, ...]:
    """Return a value as messages contain it: as it is, in quotes, in an address, line by line.

    The longest come first, since one may contain another.
    """
    as_json = (json.dumps(secret, ensure_ascii=is_plain)[1:-1] for is_plain in (True, False))
    quoted = (repr(secret)[1:-1], visible(secret), *as_json)
    in_address = (quote(secret), quote(secret, safe=""))
    lines = [line for line in secret.splitlines() if len(line) >= MIN_LONG_CHARACTERS]
    basic = b64encode(secret.encode(errors="surrogateescape")).decode()  # of `user:password`
    return tuple(sorted({secret, basic, *quoted, *in_address, *lines}, key=len, reverse=True))


@cache
def _pattern(form: str) -> re.Pattern[str]:
    if len(form) >= MIN_LONG_CHARACTERS:
        return re.compile(re.escape(form))
    starts = "|".join([r"(?<!\w)", *(f"(?<={escape})" for escape in ESCAPES)])
    return re.compile(rf"(?:{starts}){re.escape(form)}(?!\w)")


def strip_addresses(text: str) -> str:
    """Remove user info and query from each address in a text."""
    if "://" not in text:
        return text
    return QUERY.sub(r"\1", USER_INFO.sub(r"\1", text))


def has_credentials(text: str) -> bool:
    """Return whether an address in a text has user info, or a parameter that lets in."""
    return USER_INFO.sub(r"\1", text) != text or bool(PARAMETER.search(text))


def secrets_of_environment() -> Iterator[str]:
    """Return passwords and tokens in environment variables, as they are and without %-escapes."""
    for name, value in os.environ.items():
        if SECRET_VARIABLE.search(name) and len(value) >= MIN_SECRET_CHARACTERS:
            yield value
        elif "://" in value:
            for password in URL_PASSWORD.findall(value):
                if len(password) >= MIN_SECRET_CHARACTERS:
                    yield password
                    yield unquote(password)


@contextmanager
def clean_errors() -> Iterator[None]:
    """Remove secrets from what is raised inside the block, or in the function that is decorated."""
    try:
        yield
    except BaseException as error:
        cleanse(error)
        raise


def cleanse(error: BaseException) -> None:
    """Remove secrets from an error, and from the errors below it that a traceback also prints.

    An error whose text is not made of its arguments is replaced by a RuntimeError with that text.
    The type of the outermost error stays, as does every traceback.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        _cleanse_one(current)
        if current.__cause__ is not None:
            current.__cause__ = _clean_text(current.__cause__)
            waiting.append(current.__cause__)
        if current.__context__ is not None and not current.__suppress_context__:
            current.__context__ = _clean_text(current.__context__)
            waiting.append(current.__context__)
        waiting += [part for part in current.args if isinstance(part, BaseException)]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


def _cleanse_one(error: BaseException) -> None:
    if any(isinstance(part, str) and redact(part) != part for part in error.args):
        error.args = tuple(redact(part) if isinstance(part, str) else part for part in error.args)
    for name, value in list(vars(error).items()):
        if isinstance(value, str):
            error.__dict__[name] = redact(value)
        elif name == "__notes__":
            error.__dict__[name] = [redact(str(note)) for note in value]
    if isinstance(error, OSError):
        for name in ("filename", "strerror"):
            if isinstance(value := getattr(error, name), str):
                setattr(error, name, redact(value))


def _clean_text(error: BaseException) -> BaseException:
    """Return the error, or a RuntimeError in its place if its text cannot be changed."""
    _cleanse_one(error)
    text = str(error)
    if redact(text) == text:
        return error
    clean = RuntimeError(f"{type(error).__name__}: {redact(text)}").with_traceback(
        error.__traceback__
    )
    clean.__cause__, clean.__context__ = error.__cause__, error.__context__
    clean.__suppress_context__ = error.__suppress_context__
    for note in getattr(error, "__notes__", ()):
        clean.add_note(note)
    return clean
