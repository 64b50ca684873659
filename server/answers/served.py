"""What the engine reads and samples for one request, collected while it answers.

The door says by `COLLECTING` that a request's tokens are wanted, the wrapper around the engine
(`server.vllm.served`) fills in what passes. Must not know vLLM or HTTP. The token path only
appends; the stored form is made afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from feedback.served import Served, ServedChoice, pack

MULTI_MODAL = "multi_modal"
SEVERAL_PROMPTS = "several_prompts"
BEAM_SEARCH = "beam_search"
"""Why an answer has no tokens to learn from: its prompt is more than tokens, it was made in several
turns of the engine, or its tokens were searched for and not sampled."""


@dataclass(slots=True)
class Sampling:
    """One choice in the making: what was sampled until now, and why it ended, once it has."""

    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass(slots=True)
class Reading:
    """One prompt that the engine was given, and its choices by index."""

    prompt: Sequence[int]
    choices: tuple[Sampling, ...]


class Collected:
    """The tokens of one request. `unfit`: why there are none to keep, or None.

    `batches`: whether each prompt of several has choices of its own; else they are turns of one
    answer. `echoes`: what is sampled is not shown, the answer is the prompt.
    """

    def __init__(
        self, *, batches: bool = False, echoes: bool = False, unfit: str | None = None
    ) -> None:
        self.unfit = unfit
        self._batches = batches
        self._echoes = echoes
        self._readings: list[Reading] = []

    def begin(self, prompt: Sequence[int] | None, choices: int) -> Reading | None:
        """The engine is given a prompt to answer so many times, the prompts of a batch in order;
        where the answer is filled in, or None if it is not wanted. None as a prompt: it is more
        than tokens."""
        if self.unfit is None:
            if prompt is None:
                self.unfit = MULTI_MODAL
            elif self._readings and not self._batches:
                self.unfit = SEVERAL_PROMPTS
        if prompt is None or self.unfit is not None:
            return None
        reading = Reading(prompt, tuple(Sampling() for _ in range(choices)))
        self._readings.append(reading)
        return reading

    def served(self) -> Served | None:
        """All of it by now; None if the engine was given nothing, or what it was is unfit."""
        if self.unfit is not None or not self._readings:
            return None
        return Served(
            prompts=tuple(tuple(reading.prompt) for reading in self._readings),
            choices=tuple(
                ServedChoice(
                    prompt,
                    () if self._echoes else tuple(choice.token_ids),
                    choice.finish_reason,
                    choice.stop_reason,
                )
                for prompt, reading in enumerate(self._readings)
                for choice in reading.choices
            ),
        )

    def packed(self) -> bytes | None:
        """Its stored form. Not for the token path."""
        served = self.served()
        return None if served is None else pack(served)


COLLECTING: ContextVar[Collected | None] = ContextVar("attune_collecting", default=None)
"""Where the tokens of the request under way belong; None: nobody keeps them."""


def collected_for(endpoint: str, body: Mapping[str, Any]) -> Collected:
    """An empty one for a request of that endpoint."""
    return Collected(
        batches=endpoint == "completions",
        echoes=endpoint == "completions" and body.get("echo") is True and _is_zero(body),
        unfit=BEAM_SEARCH if body.get("use_beam_search") is True else None,
    )


def _is_zero(body: Mapping[str, Any]) -> bool:
    """Whether the engine reads `max_tokens` as 0: it then samples a token and drops it."""
    try:
        return float(body.get("max_tokens", "")) == 0
    except (TypeError, ValueError):
        return False
