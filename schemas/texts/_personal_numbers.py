"""Distinguish card, account, social security and phone numbers from other numbers in a text."""

from __future__ import annotations

import re
import string

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

_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL",  # codespell:ignore fo
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH DE GB GE IE ME RS",
    23: "AE GI IL TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "PT UA",
    26: "IS TR",
    27: "FR GR IT MC SM",
    28: "AL AZ CY DO GT HU LB PL",
    29: "BR EG PS QA",
    30: "JO KW MU",
    31: "MT SC",
}
_IBAN_LENGTHS = {
    country: length
    for length, countries in _IBAN_COUNTRIES.items()
    for country in countries.split()
}
"""Country to the length of its account numbers (SWIFT IBAN registry, ISO 13616)."""

_LEAST_DISTINCT_DIGITS = 4
_WINDOW_CHARACTERS = 6
_ENDS_IN_TERM = re.compile(r"[0-9)] ?$")
_ENDS_IN_OPERATOR = re.compile(r"(?:[=*×÷^$€£]|<<|[0-9)] ?[-+/−]) ?$")
_BEGINS_WITH_OPERATOR = re.compile(r" ?(?:[=*×÷^%€£]|[-+−] ?[0-9(]|/ ?[0-9]{1,3}(?![0-9]))")
_IBAN_TAIL_CHARACTERS = 45
"""An IBAN of 34 characters in groups of four has 42."""


def is_card_number(match: re.Match[str]) -> bool:
    """Check issuer range, length and Luhn digit of digits with or without separators."""
    digits = _digits(match)
    return (
        any(
            first <= int(digits[:4]) <= last and len(digits) in lengths
            for first, last, lengths in _CARD_RANGES
        )
        and has_luhn_digit(digits)
        and len(set(digits)) > 1
        and not is_in_arithmetic(match)
    )


def has_luhn_digit(digits: str) -> bool:
    """Check the last digit by the Luhn formula (ISO/IEC 7812-1, annex B)."""
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    total = sum(map(int, digits[-1::-2])) + sum(each // 10 + each % 10 for each in doubled)
    return total % 10 == 0


def is_iban(match: re.Match[str]) -> bool:
    """Check the length for the country and the remainder by 97 (ISO 7064), from the start of a match."""
    length = _IBAN_LENGTHS.get(match.group()[:2])
    if length is None:
        return False
    window = match.string[match.start() : match.start() + _IBAN_TAIL_CHARACTERS]
    taken = re.match(rf"(?:[A-Z0-9] ?){{{length}}}", window)
    if taken is None:
        return False
    goes_on = window[taken.end() : taken.end() + 1].isalnum() and not taken.group().endswith(" ")
    account = taken.group().replace(" ", "")
    number = "".join(str(int(character, 36)) for character in account[4:] + account[:4])
    return not goes_on and int(number) % 97 == 1


def is_phone_number(match: re.Match[str]) -> bool:
    """Exclude repeated digits, decimals and sums from matches in the form of a phone number."""
    text, digits = match.group(), _digits(match)
    # Ten digits follow the country codes of one digit.
    return (
        len(set(digits)) >= _LEAST_DISTINCT_DIGITS
        and (digits[0] not in "17" or not text.startswith("+") or len(digits) == 11)
        and not _NOT_A_COUNTRY.match(text)
        and not is_in_arithmetic(match)
    )


def is_in_arithmetic(match: re.Match[str]) -> bool:
    """Check whether a number is next to an operator or a currency sign."""
    before = match.string[max(0, match.start() - _WINDOW_CHARACTERS) : match.start()]
    after = match.string[match.end() : match.end() + _WINDOW_CHARACTERS]
    is_sum = match.group().startswith("+") and _ENDS_IN_TERM.search(before)
    return bool(is_sum or _ENDS_IN_OPERATOR.search(before) or _BEGINS_WITH_OPERATOR.match(after))


def _digits(match: re.Match[str]) -> str:
    return "".join(each for each in match.group() if each in string.digits)
