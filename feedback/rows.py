"""Rows of preference data made elsewhere: which forms there are, and what each row states.

TRL's forms (a prompt of its own or shared by both answers; chat messages or texts) and OpenAI's
(preference and chat fine-tuning). Pure; servers and commands read alike. Must not know files,
HTTP or SQL. Source: trl 1.16, `data_utils.maybe_extract_prompt`; OpenAI's fine-tuning guide.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from core.bodies import check_text
from core.errors import Invalid
from core.feedback_fields import MAX_TEXT, refusal
from core.names import title_of
from feedback.types import Message

RowKind = Literal["pairs", "labels"]
Prompt = tuple[Message, ...] | str

_MAX_MESSAGES = 1_000
_ROLES = ("system", "developer", "user", "assistant")
_TOOLS = ("tool_calls", "function_call")
_OTHER = {
    "pairs": "This row is a label: import it with `attune import labels`.",
    "labels": "This row is a pair: import it with `attune import pairs`.",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One judgement: `answers` to a prompt, the better one first, or one that is good or bad.

    `user`: whose judgement it is, where the row says so.
    """

    prompt: Prompt
    answers: tuple[str, ...]
    good: bool = True
    user: str | None = None

    @property
    def digest(self) -> str:
        """The same for rows that state the same: 32 hex digits."""
        stated = [self.prompt, self.answers, self.good, self.user]
        text = json.dumps(stated, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def read_row(sent: Any, kind: RowKind, *, plain: bool = False) -> Row:
    """What a row states. Raises Invalid, naming the field, for one that states nothing.

    A prompt and answers that are texts are a user's message and answers to it, or with `plain`
    texts to go on from, as of /v1/completions. Fields that no form has are passed over.
    """
    if not isinstance(sent, dict):
        raise Invalid("A row is one JSON object.")
    check_text(sent)
    prompt, answers, good = _FORMS[kind](sent, plain)
    for answer in answers:
        if not answer.strip():
            raise refusal("completion" if len(answers) == 1 else "chosen", "an answer is empty.")
    if len(answers) == 2 and answers[0].strip() == answers[1].strip():
        raise refusal("rejected", "it is the same text as the better answer.")
    return Row(prompt, answers, good, title_of(sent.get("user"), "user"))


def _pair(sent: Mapping[str, Any], plain: bool) -> tuple[Prompt, tuple[str, ...], bool]:
    if "preferred_output" in sent or "non_preferred_output" in sent:
        asked = _field(sent, "input", dict, "an object with `messages`")
        if asked.get("tools"):
            raise refusal("input.tools", "prompts that offer tools are not taken.")
        told = _prompt(asked.get("messages"), "input.messages")
        better, worse = (
            _one_answer(_messages(sent.get(name), name), name)
            for name in ("preferred_output", "non_preferred_output")
        )
        return told, (better, worse), True
    if "chosen" not in sent or "rejected" not in sent:
        if "completion" in sent or "messages" in sent:
            raise Invalid(_OTHER["pairs"])
        raise refusal("chosen", "send `chosen` and `rejected`, and mostly `prompt`.")
    prompt: Any = sent.get("prompt")
    chosen, rejected = sent["chosen"], sent["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None:
            return _shared_text(_text(chosen, "chosen"), _text(rejected, "rejected"))
        return _asked(prompt, {"chosen": chosen, "rejected": rejected}, plain)
    talks = {name: _messages(sent[name], name) for name in ("chosen", "rejected")}
    if isinstance(prompt, list):
        told = _prompt(prompt, "prompt")
    else:  # the turns they share, whatever else says what was asked
        alike = takewhile(lambda both: both[0] == both[1], zip(*talks.values(), strict=False))
        shared = sum(1 for _ in alike)
        told = _ends_asking(talks["chosen"][:shared], "chosen")
        talks = {name: talk[shared:] for name, talk in talks.items()}
    return told, tuple(_one_answer(talk, name) for name, talk in talks.items()), True


def _label(sent: Mapping[str, Any], plain: bool) -> tuple[Prompt, tuple[str, ...], bool]:
    if "messages" in sent and "completion" not in sent:
        *before, answer = _messages(sent["messages"], "messages") or [{}]
        good = _flag(sent) if "label" in sent else True
        answers = (_one_answer([answer], "messages"),)
        return _ends_asking(before, "messages"), answers, good
    if "completion" not in sent:
        if "chosen" in sent or "preferred_output" in sent:
            raise Invalid(_OTHER["labels"])
        raise refusal("completion", "send `prompt`, `completion` and `label`, or `messages`.")
    good, prompt, completion = _flag(sent), sent.get("prompt"), sent["completion"]
    if isinstance(completion, str):
        return (*_asked(prompt, {"completion": completion}, plain)[:2], good)
    talk = _messages(completion, "completion")
    if isinstance(prompt, list):
        told = _prompt(prompt, "prompt")
    else:
        told, talk = _ends_asking(talk[:-1], "completion"), talk[-1:]
    return told, (_one_answer(talk, "completion"),), good


_FORMS = {"pairs": _pair, "labels": _label}


def _asked(
    prompt: Any, answers: Mapping[str, str], plain: bool
) -> tuple[Prompt, tuple[str, ...], bool]:
    """Answers that are texts: the prompt may be one too, or chat messages."""
    texts = tuple(_text(text, name) for name, text in answers.items())
    if isinstance(prompt, list):
        return _prompt(prompt, "prompt"), texts, True
    if not isinstance(prompt, str) or not prompt.strip():
        raise refusal("prompt", "send a text or a list of chat messages.")
    _text(prompt, "prompt")
    if plain:
        return prompt, texts, True
    said = {"role": "user", "content": prompt.strip()}
    return (said,), tuple(text.strip() for text in texts), True


def _shared_text(chosen: str, rejected: str) -> tuple[Prompt, tuple[str, ...], bool]:
    """The prompt is the text both begin with, less a space at its end, as TRL cuts it."""
    alike = takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False))
    shared = sum(1 for _ in alike)
    shared -= chosen[:shared].endswith(" ")
    if not chosen[:shared].strip():
        raise refusal("prompt", "send one: `chosen` and `rejected` do not begin alike.")
    return chosen[:shared], (chosen[shared:], rejected[shared:]), True


def _prompt(sent: Any, param: str) -> Prompt:
    return _ends_asking(_messages(sent, param), param)


def _ends_asking(messages: Sequence[Message], param: str) -> Prompt:
    if not messages:
        raise refusal(param, "there is no message before the answer.")
    if messages[-1]["role"] == "assistant":
        raise refusal(param, "the last message before the answer is an assistant's already.")
    return tuple(messages)


def _one_answer(messages: Sequence[Message], param: str) -> str:
    if len(messages) != 1 or messages[0].get("role") != "assistant":
        raise refusal(param, "exactly one message of an assistant is learnt, the last.")
    return str(messages[0]["content"])


def _messages(sent: Any, param: str) -> list[Message]:
    if not isinstance(sent, list) or len(sent) > _MAX_MESSAGES:
        raise refusal(param, f"send a list of at most {_MAX_MESSAGES:,} chat messages.")
    return [_message(one, param) for one in sent]


def _message(sent: Any, param: str) -> Message:
    if not isinstance(sent, dict) or sent.get("role") not in (*_ROLES, "tool", "function"):
        raise refusal(param, "a chat message has a role (system, user, assistant) and content.")
    if sent["role"] not in _ROLES or any(sent.get(name) for name in _TOOLS):
        raise refusal(param, "messages that call tools, or that tools give, are not taken.")
    content = sent.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise refusal(param, "the content of a message is text; other parts are not taken.")
        content = "\n".join(map(str, parts))
    return {"role": sent["role"], "content": _text(content, param)}


def _text(sent: Any, param: str) -> str:
    if not isinstance(sent, str):
        raise refusal(param, "send text, or chat messages whose content is text.")
    if len(sent) > MAX_TEXT:
        raise refusal(param, f"at most {MAX_TEXT:,} characters.")
    return sent


def _flag(sent: Mapping[str, Any]) -> bool:
    if not isinstance(sent.get("label"), bool):
        raise refusal("label", "send true for a good answer and false for a bad one.")
    return bool(sent["label"])


def _field(sent: Mapping[str, Any], name: str, form: type, told: str) -> Any:
    if not isinstance(sent.get(name), form):
        raise refusal(name, f"send {told}.")
    return sent[name]
