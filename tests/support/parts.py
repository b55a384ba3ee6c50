"""What a machine may lack: a test without its part is skipped, and fails where CI must have it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tasks.models.bundled import bundled_distribution

IS_CI = os.environ.get("CI", "").lower() in ("1", "true")
NEEDS = re.compile(r"needs (?P<part>.+) \((?P<how>.+)\)$")
OPTIONAL = "optional: "
"""How to get it begins with this where CI may go without, too."""


@dataclass(frozen=True)
class Part:
    """Something that tests need and `make install` does not always bring."""

    name: str
    how: str
    """The command or the sentence that brings it."""
    is_there: bool

    @property
    def reason(self) -> str:
        """Why a test without it is skipped."""
        return f"needs {self.name} ({self.how})"

    @property
    def mark(self) -> pytest.MarkDecorator:
        """Skips a test without it."""
        return pytest.mark.skipif(not self.is_there, reason=self.reason)

    def require(self) -> None:
        """Skip the running test when the part is missing."""
        if not self.is_there:
            pytest.skip(self.reason)


def package(name: str, how: str, module: str = "") -> Part:
    """Describe a Python package that a test needs."""
    return Part(name, how, importlib.util.find_spec(module or name) is not None)


CHROMIUM = Part("Chromium", "apt-get install chromium", shutil.which("chromium") is not None)
PLAYWRIGHT = package("playwright", "make install")
DEMO_ROWS = package("zaragoza-construction-faq", "make install", "zaragoza_construction_faq")
BUNDLED_MODEL = Part("the bundled model", "make install", bundled_distribution() is not None)
FLOW = package("the extra train", f"{OPTIONAL}pip install -e '.[train]'", "prefect")
OPENAI = package("openai", "make install")
ROOT = Part("root", f"{OPTIONAL}run the tests as root", os.geteuid() == 0)
LM_EVAL = package("lm-eval", f"{OPTIONAL}pip install -e '.[lm-eval]'", "lm_eval")


def is_forbidden(reason: str) -> bool:
    """Tell whether CI must not skip for this reason: a part is missing that it can have."""
    found = NEEDS.search(reason)
    return found is not None and not found["how"].startswith(OPTIONAL)


def summary(reasons: Iterable[str]) -> str:
    """Sum up skips in one line.

    Args:
        reasons: One a skipped test.

    Returns:
        How many tests need what, and how to get it; empty when nothing was skipped.
    """
    texts: Counter[str] = Counter()
    for reason in reasons:
        found = NEEDS.search(reason)
        how = found["how"].removeprefix(OPTIONAL) if found else ""
        texts[f"need {found['part']} ({how})" if found else reason.removeprefix("Skipped: ")] += 1
    parts = [f"{number} {text}" for text, number in sorted(texts.items())]
    return f"skipped: {'; '.join(parts)}" if parts else ""
