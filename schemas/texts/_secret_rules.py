"""Key formats of issuers, from `secret_rules.json`, which `make secret-rules` writes."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

RANDOM_HINT = "[0-9][A-Za-z]+[0-9]"
"""Two digits with letters between them: every key has them, and hardly any word. The literals of all rules
in one search would take longer than the other rules on texts together."""
_RANDOM = re.compile(RANDOM_HINT)
_FILE = Path(__file__).with_name("secret_rules.json")


@dataclass(frozen=True)
class SecretRule:
    """The form of one kind of key: a match contains one of the literals and looks random."""

    name: str
    expression: str
    literals: tuple[str, ...]
    least_entropy: float
    """In bits a character."""

    @property
    def ignores_case(self) -> bool:
        """Return whether the whole pattern does."""
        return self.expression.startswith("(?i")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Compile the pattern at its first use: few texts need one."""
        return re.compile(self.expression)

    def is_in(self, text: str) -> bool:
        """Check whether a text contains a key of this kind."""
        searched = text.lower() if self.ignores_case else text
        return any(literal in searched for literal in self.literals) and any(
            map(self._is_random, self.pattern.finditer(text))
        )

    def _is_random(self, match: re.Match[str]) -> bool:
        """Distinguish keys from names in code, such as prf_some_long_function, and from fillers."""
        secret = next(filter(None, match.groups()), match.group())
        behind = max(secret.lower().find(each.lower()) + len(each) for each in self.literals)
        is_mixed = _RANDOM.search(secret, behind) is not None
        return is_mixed and _entropy(secret) >= self.least_entropy


@cache
def secret_rules() -> tuple[SecretRule, ...]:
    """Read the rules."""
    read = json.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(
        SecretRule(rule["name"], rule["pattern"], tuple(rule["literals"]), rule["entropy"])
        for rule in read["rules"]
    )


def found_rules(text: str) -> Iterator[SecretRule]:
    """Find the rules that a text contains a key of."""
    if _RANDOM.search(text):
        yield from (rule for rule in secret_rules() if rule.is_in(text))


def secret_rule_hint() -> str:
    """Build a regular expression without look-around that every text with such a key matches."""
    plain: set[str] = set()
    folded: set[str] = set()
    for rule in secret_rules():
        (folded if rule.ignores_case else plain).update(map(re.escape, rule.literals))
    return "|".join((*sorted(plain), f"(?i:{'|'.join(sorted(folded))})"))


def _entropy(text: str) -> float:
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
