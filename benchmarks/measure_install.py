"""Measure what an installation costs: resolving, downloading, unpacking and compiling.

Usage: python -m benchmarks.measure_install [SET ...], by default gate, demo and tests. Each set is
installed into a fresh environment, step by step and without pip's cache. The last line is one JSON
document: seconds of each step, MiB on disk and number of packages of each set. Compiling is done as
`make` does it, on all cores and without the packages' tests, and as pip does it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SETS = {"gate": "", "demo": "[demo]", "tests": "[dev]"}
"""What `pip install sft-flow`, `make demo` and `make test` install."""
COMPILE = ("-W", "ignore", "-m", "compileall", "-qq")
"""Fails where a package contains files of another Python, such as templates."""
MIB = 2**20


def timed(*command: str, may_fail: bool = False) -> float:
    """Run a command in the project folder and return its seconds; SystemExit if it fails."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return time.monotonic() - started


def pinned(report: Path) -> list[str]:
    """List the exact packages that pip chose, without sft-flow itself."""
    found = json.loads(report.read_text(encoding="utf-8"))["install"]
    chosen = (item["metadata"] for item in found)
    return [f"{one['name']}=={one['version']}" for one in chosen if one["name"] != "sft-flow"]


def size_mib(folder: Path) -> float:
    """Add up the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MIB


def measure(extras: str, folder: Path) -> Mapping[str, Any]:
    """Install sft-flow with extras into a fresh environment in a folder, step by step."""
    venv, wheels, report, names = (folder / n for n in ("venv", "wheels", "report", "names"))
    timed(sys.executable, "-m", "venv", str(venv))
    python = str(venv / "bin" / "python")
    timed(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
    pip = (python, "-m", "pip", "--quiet", "--no-cache-dir")
    plan = (*pip, "install", "--dry-run", "--ignore-installed", "--report", str(report))
    resolving = timed(*plan, "-c", "constraints.txt", f".{extras}")
    names.write_text("\n".join(pinned(report)), encoding="utf-8")
    asked = ("--no-deps", "-r", str(names))
    downloading = timed(*pip, "download", "--dest", str(wheels), *asked)
    local = ("--no-index", "--find-links", str(wheels), "--no-compile")
    unpacking = timed(*pip, "install", *local, *asked)
    plain = size_mib(venv)
    (libraries,) = venv.glob("lib/python*/site-packages")
    compiling = timed(python, *COMPILE, "-j", "0", "-x", "/tests?/", str(libraries), may_fail=True)
    compiled = size_mib(venv) - plain
    as_pip = timed(python, *COMPILE, "-f", str(libraries), may_fail=True)
    return {
        "resolving_seconds": round(resolving, 1),
        "downloading_seconds": round(downloading, 1),
        "unpacking_seconds": round(unpacking, 1),
        "compiling_seconds": round(compiling, 1),
        "compiling_as_pip_seconds": round(as_pip, 1),
        "packages": len(pinned(report)),
        "download_mib": round(size_mib(wheels)),
        "installed_mib": round(plain),
        "compiled_mib": round(compiled),
    }


def main() -> None:
    """Measure each set and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], default=list(SETS))
    results = {}
    for name in parser.parse_args().sets:
        with tempfile.TemporaryDirectory(prefix="sft-flow-install-") as scratch:
            results[name] = measure(SETS[name], Path(scratch))
        sys.stderr.write(f"{name}: {json.dumps(results[name])}\n")
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
