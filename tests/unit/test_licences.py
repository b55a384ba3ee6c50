"""Licences of what an installation brings, and the NOTICE that names them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from deploy import notice
from tasks.engine.extras import requirements

ROOT = Path(__file__).parents[2]
EXTRAS = "demo,mlflow-server,s3,sweep,train"
"""All that users install but lm-eval, which is not installed for the tests."""
NAMES = sorted(notice.closure([f"sft-flow[{EXTRAS}]"]))


@pytest.mark.parametrize("name", NAMES)
def test_package_has_no_copyleft_licence(name: str) -> None:
    assert not notice.needs_a_reason(name), (name, notice.licence_of(name))


@pytest.mark.parametrize(
    ("licence", "is_copyleft"),
    [
        ("GPL-3.0-or-later", True),
        ("GNU Affero General Public License v3", True),
        ("LGPL-2.1-only", True),
        ("CC-BY-NC-4.0", True),
        ("", True),
        ("MIT", False),
        ("MPL-2.0", False),
        ("Apache-2.0 WITH LLVM-exception", False),
    ],
)
def test_copyleft_licence_needs_a_reason(
    licence: str, *, is_copyleft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice, "licence_of", lambda _: licence)
    assert notice.needs_a_reason("some-package") is is_copyleft
    assert not notice.needs_a_reason("text-unidecode")


def test_every_extra_is_installed_here() -> None:
    asked = {
        requirement.name for extra, requirement in requirements() if extra in EXTRAS.split(",")
    }
    assert {canonicalize_name(name) for name in asked} <= set(NAMES)


def test_closure_follows_extras_and_markers() -> None:
    gate = notice.closure(["sft-flow"])
    assert {"sft-flow", "polars", "aiohttp"} <= gate  # aiohttp: of fsspec[http]
    assert not gate & {"torch", "prefect", "mypy"}
    assert {"torch", "huggingface-hub"} <= notice.closure(["sft-flow[train]"])


def test_notice_names_every_package_of_the_image_in_the_tested_version() -> None:
    lines = (ROOT / "NOTICE").read_text(encoding="utf-8").split("\n\n")[-1].splitlines()
    named = dict(re.findall(r"^(\S+) (\S+): ", line)[0] for line in lines)
    image = notice.closure([f"sft-flow[{','.join(notice.IMAGE_EXTRAS)}]"]) - {"sft-flow"}
    assert image - named.keys() == set()
    pinned = re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    tested = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned}
    named.pop("setuptools")  # `pip freeze` leaves it out
    assert {name: tested.get(name) for name in named} == named
