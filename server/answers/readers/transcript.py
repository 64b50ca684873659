"""What readers of answers make: the texts of its choices and what else is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from feedback.types import Choice

Object = Mapping[str, Any]


@dataclass(slots=True)
class Transcript:
    """One answered request: `answers` and `choices` have an entry per choice."""

    answers: list[str] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    document: Object | None = None  # of a response: the whole of it

    @property
    def finish_reason(self) -> str | None:
        """That of the first choice that has one."""
        return next((one.finish_reason for one in self.choices if one.finish_reason), None)

    @property
    def told(self) -> tuple[Choice, ...]:
        """The choices, if they say more than `finish_reason` does."""
        plain = len(self.choices) <= 1 and all(
            one == Choice(one.finish_reason) for one in self.choices
        )
        return () if plain else tuple(self.choices)

    def add(self, text: str, choice: Choice) -> None:
        """One more of the answers."""
        self.answers.append(text)
        self.choices.append(choice)

    def count(self, usage: object) -> None:
        """Take over the token counts, in OpenAI's or Anthropic's words."""
        for name, count in (usage if isinstance(usage, Mapping) else {}).items():
            if name in ("prompt_tokens", "input_tokens") and isinstance(count, int):
                self.prompt_tokens = count
            elif name in ("completion_tokens", "output_tokens") and isinstance(count, int):
                self.completion_tokens = count


@dataclass(slots=True)
class Growing:
    """One choice of a stream, as far as it has come."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)  # by place
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def choice(self) -> Choice:
        """All of it but the text."""
        calls = tuple(self.calls[place] for place in sorted(self.calls))
        return Choice(self.finish_reason, self.stop_reason, "".join(self.reasoning) or None, calls)


def objects(value: object) -> list[Object]:
    """A list of objects; raises TypeError for anything else."""
    if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        return value
    raise TypeError("not a list of objects")


def text(value: object) -> str:
    """The text itself; nothing where it is none."""
    return value if isinstance(value, str) else ""
