"""Values of `template.kwargs`, written into a chat template as the defaults of its variables.

Whatever renders the template uses them: training, evaluation, the registered model, a server. A request
that sets a variable itself still decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic import JsonValue

from schemas.config.run import RESERVED_VARIABLES
from schemas.errors import TemplateError
from tasks.chat_template.variants import render_faults, without_markers

_START, _END = "{# sft-flow: template.kwargs #}", "{# end of template.kwargs #}\n"
_SETTINGS = re.compile(re.escape(_START) + ".*?" + re.escape(_END), re.DOTALL)


def split_settings(template: str) -> tuple[str, str]:
    """Split a template into the settings that an earlier run wrote, if any, and the rest."""
    found = _SETTINGS.match(template)
    return template[: found.end() if found else 0], template[found.end() if found else 0 :]


def write_settings(kwargs: Mapping[str, JsonValue], template: str) -> str:
    """Write `template.kwargs` as the beginning of a template.

    Args:
        kwargs: Values of variables; without any, the text is empty.
        template: The template that reads them.

    Returns:
        Jinja source. Renderers drop the line break after a block, so it changes no text.

    Raises:
        TemplateError: The template is not Jinja, or does not read one of the variables.
    """
    if not kwargs:
        return ""
    try:
        known = sorted(_variables(template) - RESERVED_VARIABLES)
    except render_faults() as error:
        raise TemplateError(
            "the chat template is not Jinja",
            expected="a template that Jinja parses",
            got=f"{type(error).__name__}: {error}",
            fix="correct the template, or use another model",
        ) from error
    unknown = sorted(set(kwargs) - set(known))
    if unknown:
        raise TemplateError(
            f"the chat template does not read {', '.join(unknown)}",
            where="template.kwargs",
            expected=f"variables of the template: {', '.join(known)}",
            got=", ".join(sorted(kwargs)),
            fix="correct the name, or remove it from template.kwargs",
        )
    lines = (
        f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}"
        for name, value in sorted(kwargs.items())
    )
    return _START + "".join(lines) + _END


def _variables(template: str) -> set[str]:
    from jinja2 import Environment, meta

    # Parsed only, never rendered.
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])  # noqa: S701
    return meta.find_undeclared_variables(environment.parse(without_markers(template)))


def _literal(value: JsonValue) -> str:
    """Write a JSON value as Jinja does."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        pairs = (f"{_literal(name)}: {_literal(inner)}" for name, inner in value.items())
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False)
