from __future__ import annotations

from typing import Any

from tasks.tokens._forms import Form, forms_of
from tests.support.messages import ANSWER, USER

DEVELOPER = {"role": "developer", "content": "Be brief."}


def calling() -> dict[str, Any]:
    function = {"name": "find", "arguments": {"word": "ö"}}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}


def test_forms_begin_with_the_canonical_one() -> None:
    assert forms_of([USER, ANSWER]) == [Form()]
    forms = forms_of([DEVELOPER, USER, calling()])
    assert (len(forms), forms[0], forms[-1].n_changes) == (12, Form(), 3)
    assert [form.n_changes for form in forms] == sorted(form.n_changes for form in forms)
    assert len(forms_of([USER, {**ANSWER, "reasoning": "a"}])) == 4


def test_canonical_form_changes_nothing() -> None:
    messages = [DEVELOPER, USER, calling()]
    assert Form().apply(messages) is messages


def test_form_changes_only_what_it_says() -> None:
    form = Form("", has_system_for_developer=True, has_text_arguments=True)
    developer, user, call = form.apply([DEVELOPER, USER, calling()])
    assert (developer["role"], user, call["content"]) == ("system", USER, "")
    assert call["tool_calls"][0] == {
        "id": "1", "function": {"name": "find", "arguments": '{"word": "ö"}'}
    }  # fmt: skip
    assert Form(None).apply([USER, {**calling(), "content": ""}])[1] == calling()


def test_answer_without_content_stays_what_it_is() -> None:
    silent = {"role": "assistant", "content": None}
    assert forms_of([USER, silent]) == [Form()]
    assert Form("").apply([USER, silent]) == [USER, silent]
    result = {"role": "tool", "tool_call_id": "1", "content": None}
    assert Form("").apply([result]) == [{**result, "content": ""}]


def test_reasoning_is_renamed_where_it_has_one_name() -> None:
    form = Form(reasoning_field="thinking")
    reasoned = {**ANSWER, "reasoning_content": "a"}
    assert form.apply([reasoned, USER]) == [{**ANSWER, "thinking": "a"}, USER]
    both = {**reasoned, "reasoning": "b"}
    assert form.apply([both]) == [both]
