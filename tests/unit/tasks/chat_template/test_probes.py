"""Which conversations templates are tried on."""

from __future__ import annotations

from tasks.chat_template.probes import REASONING, make_probes


def test_probes_cover_one_and_two_turns_with_and_without_system() -> None:
    roles = ["".join(message["role"][0] for message in probe.messages) for probe in make_probes()]
    assert roles == ["ua", "uaua", "sua", "suaua"]


def test_each_answer_of_a_probe_can_have_a_reasoning() -> None:
    probe = make_probes()[3]
    reasoned = probe.with_reasoning().messages
    answers = [n for n, message in enumerate(reasoned) if "reasoning_content" in message]
    assert answers == probe.assistant_turns
    assert {reasoned[n]["reasoning_content"] for n in answers} == {REASONING}
    assert [m["content"] for m in reasoned] == [m["content"] for m in probe.messages]
