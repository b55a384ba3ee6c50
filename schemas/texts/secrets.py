"""Kinds of secrets and personal data in texts; only the kind is reported, never the text.

Published samples do not count (test cards, alice@example.com, numbers for fiction); apart from them, the
form of a value does not show whether it is real, and the rule only warns. Not detected: passwords in code (`password = "secret"`)
unless they look random, names, postal and network addresses, and identity numbers of countries
other than the United States. Phone numbers must be ones that can be given out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from schemas.texts._personal_numbers import (
    is_card_number,
    is_iban,
    is_in_arithmetic,
    is_national_number,
    is_phone_number,
)
from schemas.texts._published import is_published_social_security_number, is_reserved_host
from schemas.texts._secret_rules import RANDOM_HINT, found_rules, secret_rule_hint
from schemas.texts._secret_tokens import TOKEN_KINDS, SecretKind

if TYPE_CHECKING:
    import polars

_SHARED_MAILBOXES = re.compile(
    r"abuse|admin|billing|contact|feedback|git|hello|help|hostmaster|info|jobs|mail|marketing|news"
    r"|no-?reply|noc|office|postmaster|press|root|sales|security|service|support|usenet|webmaster",
    re.IGNORECASE,
)
"""Mailboxes of a role (RFC 2142 and custom) and the user of git addresses, not of persons."""
_TOP_DOMAINS = (
    "com|net|org|edu|gov|mil|int|info|biz|name|pro|app|dev|tech|online|site|shop|store|email|cloud"
)
"""Besides the two letters of a country; more of them would take `a@b.shape` in code."""


_PHONE_FORMS = "|".join(
    (
        r"(?:1[ -])?\(?[2-9][0-8][0-9](?:\) ?|[ -])[0-9]{3}-[0-9]{4}",  # North America
        r"(?:1\.)?[2-9][0-8][0-9]\.[2-9][0-9]{2}\.[0-9]{4}",
        "07[0-9]{3} ?[0-9]{3} ?[0-9]{3}|020 [0-9]{4} [0-9]{4}|01[0-9]{3} [0-9]{6}",  # UK
        "0[1-79](?:[ .][0-9]{2}){4}",  # France
        "01[567][0-9]{1,2}[ /-][0-9]{6,8}",  # Germany, mobile
        "07[02369][ -]?[0-9]{3} ?[0-9]{2} ?[0-9]{2}",  # Sweden, mobile
        "0[1-9][0-9]{0,2}-[0-9]{2,3} [0-9]{2,3} [0-9]{2}(?: [0-9]{2})?",  # Sweden
    )
)
"""National forms. Ten digits without separators are not one: they may be any number."""
_PHONE_WORDS = (
    "tele?[fp]h?on|tel[.:]|phone|call|mobile?n?|cell|whatsapp|m[óo]vil|tel[ée]fono|cellulare|celular|llam"
    "|komórk|電話|携帯"
)
_GROUPED = (
    r"(?P<number>\(?0[1-9][0-9]{0,4}\)?[ -][0-9]{2,8}(?:[ -][0-9]{2,6}){0,3}"
    r"|\([1-9][0-9]\) ?9?[0-9]{4}-[0-9]{4})"
)
_ANNOUNCED = (
    rf"(?i:{_PHONE_WORDS})[^0-9\n]{{0,20}}(?P<number>[1-9][0-9]{{1,4}}(?:[ -][0-9]{{2,5}}){{2,4}})"
)
"""Digits in groups: with the 0 of a national number, or announced by a word, since any number may look so."""

_PERSONAL_KINDS: tuple[SecretKind, ...] = (
    # ISO/IEC 7812; as one number, or in the groups that are printed on the card
    SecretKind(
        "card number",
        re.compile(
            r"(?<![\w.,+-])(?:[0-9]{4}(?P<gap>[ -])[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{4}"
            r"|3[0-9]{3}(?P<gap_of_three>[ -])[0-9]{6}(?P=gap_of_three)[0-9]{4,5}|[0-9]{14,19})"
            r"(?![\w-]|[.,][0-9]| [0-9]{4})",
            re.ASCII,
        ),
        "[0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4}|[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{4}"
        "|3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4}|[0-9]{14}",
        is_card_number,
    ),
    # ISO 13616
    SecretKind(
        "IBAN",
        re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}"),
        "[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}",
        is_iban,
    ),
    # ssa.gov/employer/randomization.html: no area 000, 666 or 900 to 999
    SecretKind(
        "US social security number",
        re.compile(
            r"(?<![\w.,+-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-]|[.,][0-9])",
            re.ASCII,
        ),
        "[0-9]{3}-[0-9]{2}-[0-9]{4}",
        lambda match: (
            not (is_published_social_security_number(match.group()) or is_in_arithmetic(match))
        ),
    ),
    # RFC 5322, the part of it that is in use
    SecretKind(
        "e-mail address",
        re.compile(
            r"(?<![A-Za-z0-9_.+%@-])(?P<user>[A-Za-z0-9][A-Za-z0-9_.+%-]{0,63})"
            rf"@(?P<host>(?:[\w-]{{1,63}}\.){{1,8}}(?:[A-Za-z]{{2}}|{_TOP_DOMAINS}))"
            r"(?![A-Za-z0-9_(-]|\.[A-Za-z0-9_])"
        ),
        r"[0-9A-Za-z_.+%-]@[^\s@.]+\.",
        lambda match: (
            not (is_reserved_host(match["host"]) or _SHARED_MAILBOXES.fullmatch(match["user"]))
        ),
    ),
    # ITU-T E.123 and E.164: at most 15 digits
    SecretKind(
        "phone number",
        re.compile(
            r"(?<![\w+.])\+[1-9](?:[ .-]?\(?[0-9]\)?){7,14}(?!\w|[ .-]?[0-9])"
            rf"|(?<![\w.,+$/*=-])(?<![0-9][ .-])(?:{_PHONE_FORMS})(?!\w|[ .-]?[0-9])",
            re.ASCII,
        ),
        rf"\+[1-9](?:[ .-]?\(?[0-9]\)?){{7}}|{_PHONE_FORMS}",
        is_phone_number,
    ),
    SecretKind(
        "phone number",
        re.compile(rf"(?<![\w.,+$/*=-])(?<![0-9][ -]){_GROUPED}(?!\w|[ .,-]?[0-9])", re.ASCII),
        r"0[1-9][0-9]{0,4}\)?[ -](?:[0-9]{5}|[0-9]{2,4}[ -][0-9]{2})|\([1-9][0-9]\) ?9?[0-9]{4}-",
        is_national_number,
    ),
    SecretKind(
        "phone number",
        re.compile(rf"{_ANNOUNCED}(?!\w|[ .,-]?[0-9])"),
        "[0-9]{2}[ -][0-9]{3,4}[ -][0-9]{3}|(?:[0-9]{2}[ -]){3}[0-9]{2}",
        is_national_number,
    ),
)
SECRET_KINDS = (*TOKEN_KINDS, *_PERSONAL_KINDS)
_RULE_HINT = secret_rule_hint()
FEW_TEXTS = 1000
SECRET_HINT = "|".join((*(kind.hint for kind in SECRET_KINDS), RANDOM_HINT))
"""Regular expression without look-around that every text with a secret matches."""


def secret_kinds(text: str) -> tuple[str, ...]:
    """List the kinds of secrets and personal data in a text: those of `SECRET_KINDS`, then of the rules."""
    found = [kind.name for kind in SECRET_KINDS if kind.is_in(text)]
    found += [rule.name for rule in found_rules(text)]
    return tuple(dict.fromkeys(found))


def find_secrets(texts: polars.Series) -> list[int]:
    """Return the places, in order, of the texts with a secret or personal data.

    Texts are without nulls. Many are searched by polars first, kind by kind; for a few, compiling its
    regular expressions takes longer than the search.
    """
    found: set[int] = set()
    searches: list[tuple[str, Callable[[str], bool]]] = [
        *((kind.hint, kind.is_in) for kind in SECRET_KINDS),
        (_RULE_HINT, _has_key),
    ]
    read = texts.to_list()
    for hint, is_in in searches:
        places: Iterable[int] = range(len(texts))
        if len(texts) > FEW_TEXTS:
            places = texts.str.contains(hint).arg_true()
        found.update(place for place in places if place not in found and is_in(read[place]))
    return sorted(found)


def _has_key(text: str) -> bool:
    return next(found_rules(text), None) is not None
