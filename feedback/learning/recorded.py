"""An answer as it was recorded: what people read of it, and the token ids that were served.

Owns which record can be learnt from, and what a trainer is told to make token ids of the rest.
Must not know: votes, tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.errors import Invalid
from feedback.learning.texts import prompt_key
from feedback.served import unpack
from feedback.token_ids import Ids
from feedback.types import Interaction, Message

Prompt = tuple[Message, ...] | str

_TOOL_REASONS = ("tool_calls", "function_call", "tool_use")
_CUT = ("length", "max_tokens", "incomplete")
_STOPS = ("stop", "stop_sequences", "stop_token_ids")


class Refused(Exception):
    """A signal that cannot be learnt from; its text is the reason as counted in `dropped`."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the engine counted of a request whose ids were not kept.

    `answers` are all of its choices, which `completion_tokens` is the sum of.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One prompt and one answer to it: as people read them, and as they were served.

    `asked` is what the request held; of several prompts the answer is to the one at `place`.
    `cut`: no end token ended it. `counted`: what the ids that are not known must agree with.
    `instead_of`: of a text that somebody wrote, the answer it replaces.
    """

    asked: Any
    text: str
    prompt_ids: Ids | None = None
    ids: Ids | None = None
    place: int = 0
    calls_tools: bool = False
    cut: bool = False
    counted: Counted | None = None
    instead_of: Recorded | None = None

    @property
    def prompt(self) -> Prompt:
        """The prompt as people read it: never refused, whatever it holds."""
        return _shown(self.asked, self.place)

    @property
    def plain(self) -> bool:
        """Whether the text tells it apart: it has one, and no call beside it."""
        return bool(self.text.strip()) and not self.calls_tools


Encode = Callable[[Recorded], tuple[Ids | None, Ids | None]]
"""The ids of the prompt and of the answer as a trainer takes them; None for what nobody knows.

Raises Refused with the reason where it cannot take them.
"""


def anything_fits(recorded: Recorded) -> tuple[Ids | None, Ids | None]:
    """The `Encode` of a trainer that takes everything and has no tokenizer."""
    return recorded.prompt_ids, recorded.ids


def recorded_answer(about: Interaction, choice: int) -> Recorded:
    """The choice of that index. Raises Refused where nobody can learn from it."""
    if about.tokens is not None:
        return _by_ids(about, about.tokens, choice)
    unfit = (about.response or {}).get("unfit")
    if isinstance(unfit, str):
        raise Refused(unfit)
    if _has_calls(about):
        raise Refused("tool_calls")
    return _by_words(about, choice)


def corrected(given: Recorded, edit: str) -> Recorded:
    """The edited answer in the place of the one given.

    Raises Refused for one that says nothing, and beside a call of tools: a text does not say what
    becomes of the call.
    """
    if given.calls_tools:
        raise Refused("tool_calls")
    if not edit.strip():
        raise Refused("empty_answer")
    return replace(given, text=edit, ids=None, cut=False, counted=None, instead_of=given)


def _by_ids(about: Interaction, tokens: bytes, choice: int) -> Recorded:
    try:
        served = unpack(tokens)
    except Invalid as error:
        raise Refused("not_as_served") from error
    if choice >= len(served.choices):
        raise Refused("no_such_choice")
    sampled = served.choices[choice]
    text = about.answers[choice] if choice < len(about.answers) else ""
    if sampled.finish_reason in ("abort", "error"):
        raise Refused("not_completed")
    if len(sampled.token_ids) < 2 and not (sampled.token_ids and text.strip()):
        raise Refused("empty_answer")
    return Recorded(
        about.prompt,
        text,
        served.prompts[sampled.prompt],
        sampled.token_ids,
        sampled.prompt,
        calls_tools=_has_calls(about),
    )


def _by_words(about: Interaction, choice: int) -> Recorded:
    if choice >= len(about.answers):
        raise Refused("no_such_choice")
    text = about.answers[choice]
    if not text.strip():
        raise Refused("empty_answer")
    counted = None
    if about.prompt_tokens is not None or about.completion_tokens is not None:
        counted = Counted(about.prompt_tokens, about.completion_tokens, about.answers)
        if any(about.sampling.get(name) for name in _STOPS):
            raise Refused("not_as_served")  # nobody knows whether it ended or was stopped
    return Recorded(
        _normalised(about.prompt), text, cut=about.finish_reason in _CUT, counted=counted
    )


def _has_calls(about: Interaction) -> bool:
    return about.finish_reason in _TOOL_REASONS or _calls_tools(about.response)


def _shown(prompt: Any, place: int) -> Prompt:
    if isinstance(prompt, str):
        return prompt
    if all(isinstance(message, Mapping) for message in prompt):
        try:
            return _normalised(prompt)
        except Refused:
            return tuple(prompt)
    several = not all(isinstance(token, int) for token in prompt) and place < len(prompt)
    one = prompt[place] if several else prompt
    return one if isinstance(one, str) else prompt_key(one)


def _normalised(prompt: Sequence[Message] | str) -> Prompt:
    """The prompt as a chat template is given it: role and text of each message, parts joined."""
    if isinstance(prompt, str):
        return prompt
    messages = []
    for message in prompt:
        if not isinstance(message, Mapping):
            raise Refused("not_as_served")  # one of several prompts, and nobody knows which
        kind = message.get("type", "message")  # of an item of a response
        if kind == "reasoning":
            continue  # what was thought is no turn of the conversation
        uses_tools = message.get("role") in ("tool", "function") or kind != "message"
        if uses_tools or _calls_tools(message):
            raise Refused("tool_calls")
        messages.append({"role": message.get("role"), "content": _plain(message.get("content"))})
    return tuple(messages)


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
    ):
        raise Refused("not_text")
    return "\n".join(part["text"] for part in content)


def _calls_tools(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(
            bool(item) if key in _TOOL_REASONS else _calls_tools(item)
            for key, item in value.items()
        )
    return isinstance(value, list | tuple) and any(map(_calls_tools, value))
