"""Chat templates made to harm: what reaches for the system, and what does not end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.config.run import TemplateConfig, TemplateKind
from schemas.errors import TemplateError
from tasks.chat_template import trial
from tasks.chat_template.contract import render
from tasks.chat_template.setup import set_up_template
from tasks.chat_template.trial import check_ends
from tests.support.toy import make_toy_model

TURNS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HARMFUL = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
    "{{ lipsum.__globals__['os'].popen('touch MARK').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ (raise_exception.__globals__ or {})['__builtins__']['open']('MARK', 'w') }}",
    "{{ messages.append(messages[0]) }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "{{ ('{0.__class__.__init__.__globals__}' | attr('format'))(raise_exception) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends '/etc/passwd' %}",
    "{% for n in range(10 ** 9) %}{% endfor %}",
    "{{ 1 / 0 }}",
    "{{ 2 ** 0.5 ** 'x' }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ none.x.y }}",
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy") / "model")


def set_up(model_folder: Path, template: str, folder: Path) -> str:
    """Set a template of a file up on a model, as a run does, and return the one it has then."""
    path = folder / "template.jinja"
    path.write_text(template, encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    set_up_template(
        AutoModelForCausalLM.from_pretrained(model_folder),
        tokenizer,
        TemplateConfig(kind=TemplateKind.FILE, path=str(path)),
    )
    return str(tokenizer.chat_template)


def test_template_without_harm_passes(toy: Path, tmp_path: Path) -> None:
    assert set_up(toy, TURNS, tmp_path) == TURNS


@pytest.mark.parametrize("harm", HARMFUL)
def test_template_that_reaches_for_the_system_gets_nothing(
    toy: Path, tmp_path: Path, harm: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(toy)
    tokenizer.chat_template = harm.replace("MARK", str(tmp_path / "mark")) + TURNS
    try:
        text = render(tokenizer, [{"role": "user", "content": "Hello"}])
    except TemplateError as error:
        text = str(error)
    assert not (tmp_path / "mark").exists()
    assert not re.search("<class|<module|root:|posix", text)


LONG_LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("harm", "got"),
    [
        (LONG_LOOP, "s"),
        ("{{ 'x' * 10 ** 11 }}", "MiB"),
        ("{{ 'x' | center(10 ** 11) }}", "MiB"),
        (
            "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "MiB",
        ),
    ],
)
def test_template_that_does_not_end_is_refused_within_limits(
    harm: str, got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "MOST_SECONDS", 1)
    monkeypatch.setattr(trial, "MOST_BYTES", 200 << 20)
    with pytest.raises(TemplateError, match="does not end") as caught:
        check_ends(harm + TURNS, {})
    assert caught.value.got.endswith(f" {got}")


def test_template_that_does_not_end_is_not_set_up(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "MOST_SECONDS", 1)
    with pytest.raises(TemplateError, match="does not end"):
        set_up(toy, LONG_LOOP + TURNS, tmp_path)


def test_what_the_trial_cannot_render_is_left_to_the_contract() -> None:
    for template in ("{% if %}", "{{ raise_exception('no') }}", "{{ bos_token.x.y }}", ""):
        check_ends(template, {"bos_token": "<s>"})


def test_template_with_markers_of_training_is_tried_too() -> None:
    trial.render_probes("{{ messages[0].content }}", {})
    check_ends("{% generation %}{{ messages[0].content }}{% endgeneration %}", {})


def test_jinja_and_markers_in_the_texts_of_a_row_are_text(toy: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(toy)
    text = "{{ 7 * 7 }}{% for a in messages %}{{ a }}{% endfor %}{# gone #}{{ cycler.__init__ }}"
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    assert tokenizer.apply_chat_template(turns, tokenize=False).count(text) == 2


def test_folder_with_a_package_of_the_same_name_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trial, "MOST_SECONDS", 1)
    check_ends("{{ messages }} in a folder of its own", {})
    with pytest.raises(TemplateError, match="does not end"):
        check_ends(
            "{% for _ in range(99999) %}{% for _ in range(99999) %}{% endfor %}{% endfor %}", {}
        )
