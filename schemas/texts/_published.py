"""Values that are published as samples: cards, accounts, phone numbers, addresses."""

from __future__ import annotations

import re

# docs.stripe.com/testing; developer.paypal.com/api/nvp-soap/payflow/integration-guide/test-transactions
_CARDS = frozenset(
    [
        "4242424242424242",
        "4000056655665556",
        "5555555555554444",
        "2223003122003222",
        "5200828282828210",
        "5105105105105100",
        "378282246310005",
        "371449635398431",
        "378734493671000",
        "6011111111111117",
        "6011000990139424",
        "6011981111111113",
        "3056930009020004",
        "30569309025904",
        "36227206271667",
        "38520000023237",
        "6555900000604105",
        "3566002020360505",
        "3530111333300000",
        "6200000000000005",
        "6200000000000047",
        "6205500000000000004",
        "4111111111111111",
        "4012888888881881",
    ]
)
_CARDS_OF_STRIPE = "4000000"
"""Continued by the error that the test card is to give."""
# the example of each country in SWIFT's IBAN registry, and those of Wikipedia
_ACCOUNTS = frozenset(
    [
        "DE89370400440532013000",
        "GB82WEST12345698765432",
        "GB29NWBK60161331926819",
        "FR1420041010050500013M02606",
        "FR7630006000011234567890189",
        "NL91ABNA0417164300",
        "ES9121000418450200051332",
        "BE68539007547034",
        "AT611904300234573201",
        "CH9300762011623852957",
        "SE4550000000058398257466",
        "IT60X0542811101000000123456",
        "DK5000400440116243",
        "NO9386011117947",
        "FI2112345600000785",
        "IE29AIBK93115212345678",
        "PL61109010140000071219812874",
        "PT50000201231234567890154",
        "LU280019400644750000",
    ]
)
# ssa.gov/history/ssn/misused.html; the counting number of forms
_SOCIAL_SECURITY = frozenset(("078-05-1120", "219-09-9999", "123-45-6789"))
_PHONE = re.compile(
    r"1?[2-9][0-9]{2}55501[0-9]{2}|1?5550?1[0-9]{2,5}"  # North American Numbering Plan
    # ofcom.org.uk, numbers for drama use
    r"|(?:44|0)(?:1632960[0-9]{3}|2079460[0-9]{3}|7700900[0-9]{3}|8081570[0-9]{3}|1(?:1[3-8]|[2-6]1)4960[0-9]{3}"
    r"|1914980[0-9]{3}|28964960[0-9]{2}|2920180[0-9]{3}|3069990[0-9]{3}|909879[0-9]{4})"
    r"|(?:61|0)49157[0-9]{4}"  # acma.gov.au, numbers for radio, film and television
)
# RFC 2606 and RFC 6761; "example" under the ending of any country is as common
RESERVED_DOMAIN = re.compile(
    r"(?:^|\.)(?:example(?:\.[a-z]{2,3}(?:\.[a-z]{2})?)?|test|invalid|localhost|local)$",
    re.IGNORECASE,
)


def is_published_card(digits: str) -> bool:
    """Check whether these digits are a test card of Stripe or PayPal."""
    return digits in _CARDS or digits.startswith(_CARDS_OF_STRIPE)


def is_published_account(account: str) -> bool:
    """Check whether this IBAN, without blanks, is a published example."""
    return account in _ACCOUNTS


def is_published_social_security_number(number: str) -> bool:
    """Check whether this number is known from advertising or forms."""
    return number in _SOCIAL_SECURITY


def is_published_phone_number(digits: str) -> bool:
    """Check whether these digits, with or without country, are reserved for fiction."""
    return _PHONE.fullmatch(digits) is not None


def is_reserved_host(host: str) -> bool:
    """Check whether a host name is reserved for documentation and tests."""
    return RESERVED_DOMAIN.search(host) is not None
