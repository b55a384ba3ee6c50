"""A first look at a chat template, in a process that may neither run nor grow without end.

Jinja's sandbox keeps a template from the system and limits one `range`, but not two within one another,
nor the length of a text.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from schemas.errors import TemplateError
from tasks.chat_template.probes import make_probes
from tasks.chat_template.variants import without_markers

MOST_SECONDS = 10
"""Of processor time for a handful of short conversations, which take a thousandth of it."""
MOST_BYTES = 1 << 30
WAIT_SECONDS = 600.0
"""On a machine that is busy with other work."""
OUT_OF_MEMORY = 12
"""Exit code of the trial: errno's ENOMEM."""


def check_ends(template: str, variables: Mapping[str, str]) -> None:
    """Render a few conversations in another process, which is limited in time and memory.

    Whether the text is right is not looked at, nor whether there is one.

    Args:
        template: Jinja source.
        variables: Special tokens by the names that templates have for them.

    Raises:
        TemplateError: Rendering does not end, or takes more memory than a text has.
    """
    task = {"template": without_markers(template), "variables": dict(variables)}
    _try(json.dumps(task | {"seconds": MOST_SECONDS, "bytes": MOST_BYTES}))


@cache  # a process may set the same template up more than once
def _try(task: str) -> None:
    command = [sys.executable, "-P", "-m", "tasks.chat_template.trial"]
    got = f"more than {MOST_SECONDS} s"
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603 - our own command
            command, input=task.encode(), capture_output=True, timeout=WAIT_SECONDS, check=False
        )
        if done.returncode == OUT_OF_MEMORY:
            got = f"more than {MOST_BYTES >> 20} MiB"
        elif done.returncode >= 0:
            return done.check_returncode()  # a trial that cannot even start is no pass
    raise TemplateError(
        "rendering a short conversation with the chat template does not end",
        expected=f"a text within {MOST_SECONDS} s of processor time and {MOST_BYTES >> 20} MiB",
        got=got,
        fix="look for loops and repeated texts in the template; use another model or template",
    )


def render_probes(template: str, variables: Mapping[str, str]) -> None:
    """Render conversations as transformers does; what the template refuses is no matter."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    environment.globals |= {"strftime_now": lambda _: "1 January 2026", "raise_exception": _refuse}
    compiled = environment.from_string(template)
    for probe in make_probes():
        for is_prompt in (True, False):
            try:
                compiled.render(
                    messages=list(probe.messages), add_generation_prompt=is_prompt, **variables
                )
            except Exception as error:
                if isinstance(error, MemoryError):
                    raise
                # The contract tells what else is wrong.


def _refuse(message: str) -> None:
    raise ValueError(message)


def main() -> None:
    """Read a template and variables from standard input, and try it within the limits."""
    task: Any = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (task["seconds"],) * 2)
    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (task["bytes"],) * 2)
    try:
        render_probes(task["template"], task["variables"])
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    except Exception:
        return  # it is not Jinja: the contract tells why


if __name__ == "__main__":
    main()
