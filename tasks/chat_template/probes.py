"""Fixed conversations that templates are tried on."""

from __future__ import annotations

from dataclasses import dataclass

Message = dict[str, str]

USER_TURNS = ("How tall may a fence be?", "And who decides that?")
ASSISTANT_TURNS = ("Two metres at most.", "Your local council.")
SYSTEM_TURN = "Answer briefly."
REASONING = "Every place has its own rules."


@dataclass(frozen=True)
class Probe:
    """A fixed conversation that templates are tried on."""

    name: str
    messages: tuple[Message, ...]

    def before(self, turn: int) -> list[Message]:
        """Cut the conversation before one of its messages."""
        return list(self.messages[:turn])

    def with_reasoning(self) -> Probe:
        """Return the same conversation with a reasoning for each answer."""
        messages = (
            {**message, "reasoning_content": REASONING}
            if message["role"] == "assistant"
            else message
            for message in self.messages
        )
        return Probe(f"{self.name} with reasoning", tuple(messages))

    @property
    def assistant_turns(self) -> list[int]:
        """Positions of the assistant's messages."""
        return [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]


def make_probes() -> tuple[Probe, ...]:
    """Make fixed conversations of one and two turns: first without, then with a system message."""
    dialogue: list[Message] = []
    for question, answer in zip(USER_TURNS, ASSISTANT_TURNS, strict=True):
        dialogue.append({"role": "user", "content": question})
        dialogue.append({"role": "assistant", "content": answer})
    system: Message = {"role": "system", "content": SYSTEM_TURN}
    return (
        Probe("one turn", tuple(dialogue[:2])),
        Probe("two turns", tuple(dialogue)),
        Probe("one turn with a system message", (system, *dialogue[:2])),
        Probe("two turns with a system message", (system, *dialogue)),
    )
