"""Distinguish card, account, social security and phone numbers from other numbers in a text.

python-stdnum knows the account numbers of each country, phonenumberslite the phone numbers; both look at
candidates only, and are imported with the first one.
"""

from __future__ import annotations

import re
import string

from schemas.texts._published import (
    is_published_account,
    is_published_card,
    is_published_phone_number,
)

_NOT_A_COUNTRY = re.compile(r"\+[2-689][ .-]|\+[0-9]+\.[0-9]+$")
"""Only 1 and 7 are codes of one digit (ITU-T E.164); and a decimal with its sign."""

_CARD_RANGES: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (4000, 4999, (16,)),  # Visa
    (5100, 5599, (16,)), (2221, 2720, (16,)),  # Mastercard
    (3400, 3499, (15,)), (3700, 3799, (15,)),  # American Express
    (6011, 6011, (16,)), (6440, 6599, (16,)),  # Discover
    (3000, 3059, (14,)), (3600, 3699, (14,)), (3800, 3899, (14,)),  # Diners Club
    (3528, 3589, (16,)),  # JCB
    (6200, 6299, (16, 17, 18, 19)),  # UnionPay
)  # fmt: skip
"""First four digits, from and to, and how many digits there are (ISO/IEC 7812)."""

_LEAST_DISTINCT_DIGITS = 4
_LEAST_IBAN_CHARACTERS = 15
_WINDOW_CHARACTERS = 6
_ENDS_IN_TERM = re.compile(r"[0-9)] ?$")
_ENDS_IN_OPERATOR = re.compile(r"(?:[=*×÷^$€£]|<<|[0-9)] ?[-+/−]) ?$")
_BEGINS_WITH_OPERATOR = re.compile(r" ?(?:[=*×÷^%€£]|[-+−] ?[0-9(]|/ ?[0-9]{1,3}(?![0-9]))")
_IBAN_TAIL_CHARACTERS = 45
"""An IBAN of 34 characters in groups of four has 42."""
_IBAN_PART = re.compile(r"[A-Z0-9]+(?: |(?![A-Za-z0-9]))")
_REGIONS = ("ES", "IT", "NL", "PL", "IN", "BR", "JP", "AU")
"""Whose national forms are tried, besides those in `secrets.py`; others only in international form."""
_DATE = re.compile(r"(?:^|[^0-9])[0-3]?[0-9][ -][01]?[0-9][ -](?:19|20)[0-9]{2}")


def is_card_number(match: re.Match[str]) -> bool:
    """Check issuer range, length and Luhn digit of digits with or without separators."""
    from stdnum import luhn

    digits = _digits(match)
    return (
        any(
            first <= int(digits[:4]) <= last and len(digits) in lengths
            for first, last, lengths in _CARD_RANGES
        )
        and luhn.is_valid(digits)
        and len(set(digits)) > 1
        and not is_published_card(digits)
        and not is_in_arithmetic(match)
    )


def is_iban(match: re.Match[str]) -> bool:
    """Check country, length and check digits of the account number that starts at a match."""
    from stdnum import iban

    window = match.string[match.start() : match.start() + _IBAN_TAIL_CHARACTERS]
    place = 0
    while part := _IBAN_PART.match(window, place):
        place = part.end()
        account = window[:place].replace(" ", "")
        number = "".join(str(int(character, 36)) for character in account[4:] + account[:4])
        is_sound = len(account) >= _LEAST_IBAN_CHARACTERS and int(number) % 97 == 1
        if is_sound and iban.is_valid(account):  # which takes longer
            return not is_published_account(account)
    return False


def is_phone_number(match: re.Match[str]) -> bool:
    """Check a match in the form of a phone number: no sum, no decimal, and a number that can be called."""
    text, digits = match.group(), _digits(match)
    if is_published_phone_number(digits):
        return False
    if len(set(digits)) < _LEAST_DISTINCT_DIGITS or is_in_arithmetic(match):
        return False
    if text.startswith("+"):
        return not _NOT_A_COUNTRY.match(text) and _is_valid_in(text, None)
    return True


def is_national_number(match: re.Match[str]) -> bool:
    """Check digits in groups that may be a phone number of some country, grouped as that country does."""
    import phonenumbers

    text = match["number"]
    if is_published_phone_number("".join(filter(str.isdigit, text))):
        return False
    is_odd = len(set(text)) <= _LEAST_DISTINCT_DIGITS or _DATE.match(text)
    return not (is_odd or is_in_arithmetic(match)) and any(
        phonenumbers.PhoneNumberMatcher(
            text, region, phonenumbers.Leniency.STRICT_GROUPING
        ).has_next()
        for region in _REGIONS
    )


def _is_valid_in(text: str, region: str | None) -> bool:
    import phonenumbers

    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(text, region)))
    except phonenumbers.NumberParseException:
        return False


def is_in_arithmetic(match: re.Match[str]) -> bool:
    """Check whether a number is next to an operator or a currency sign."""
    before = match.string[max(0, match.start() - _WINDOW_CHARACTERS) : match.start()]
    after = match.string[match.end() : match.end() + _WINDOW_CHARACTERS]
    is_sum = match.group().startswith("+") and _ENDS_IN_TERM.search(before)
    return bool(is_sum or _ENDS_IN_OPERATOR.search(before) or _BEGINS_WITH_OPERATOR.match(after))


def _digits(match: re.Match[str]) -> str:
    return "".join(each for each in match.group() if each in string.digits)
