"""The prompt of a request as it is recorded: as the model read it, so far as words can say.

Pure. What the model read to the last token is kept beside it, as token ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from feedback.types import Message, Prompts
from server.chat_template import PLAIN_TEMPLATE, ChatTemplate, texts_of

_BILLING = "x-anthropic-billing-header"
"""Begins a text of Claude Code's that vLLM leaves out: it says nothing and is new each time."""


def recorded_prompt(
    endpoint: str, body: Mapping[str, Any], template: ChatTemplate = PLAIN_TEMPLATE
) -> Prompts:
    """Chat messages as the template reads them, or the prompts of a completion.

    The items of a response stay as they were sent: they may become the input of the turn after.
    """
    if endpoint == "completions":
        return _prompts(body.get("prompt"))
    if endpoint == "responses":
        return tuple(_with_system(body.get("instructions"), body.get("input")))
    messages = body.get("messages")
    if endpoint == "messages":
        return template.as_read(_of_anthropic(body.get("system"), messages, template))
    return template.as_read(_with_system(None, messages))


def _prompts(sent: Any) -> Prompts:
    """A text, its token ids, or a list of either; else, as its JSON, what no engine reads."""
    if isinstance(sent, str):
        return sent
    if isinstance(sent, list) and sent:
        if _are_ids(sent) or all(isinstance(one, str) for one in sent):
            return tuple(sent)
        if all(isinstance(one, list) and one and _are_ids(one) for one in sent):
            return tuple(tuple(one) for one in sent)
    return msgspec.json.encode(sent).decode()


def _are_ids(sent: Sequence[Any]) -> bool:
    return all(type(one) is int and one >= 0 for one in sent)


def _with_system(system: Any, messages: Any) -> Iterator[Message]:
    if system:
        yield {"role": "system", "content": system}
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield message


def _of_anthropic(system: Any, messages: Any, template: ChatTemplate) -> Iterator[Message]:
    """Messages in Anthropic's form: system blocks are one text, others are parts if there are more
    than one."""
    told = list(_with_system(None, messages))
    inline = [one.get("content") for one in told if one.get("role") == "system"]
    yield from _system([system, *inline] if template.system_first else [system])
    for message in told:
        content = message.get("content")
        if message.get("role") == "system":
            if not template.system_first:
                yield from _system([content])
        elif isinstance(content, list):
            parts = [part for part in content if not _is_blank(part)]
            texts = texts_of(parts)
            alone = texts is not None and len(texts) == 1
            yield {**message, "content": texts[0] if texts and alone else parts}
        else:
            yield message


def _system(contents: Iterable[Any]) -> Iterator[Message]:
    """One system message of all the texts, joined by nothing; of no text none."""
    texts: list[str] = []
    for content in contents:
        some = texts_of(content) if isinstance(content, list) else [content or ""]
        if some is None or not all(isinstance(text, str) for text in some):
            yield {"role": "system", "content": content}  # no engine reads it
            continue
        texts += (text for text in some if not text.startswith(_BILLING))
    joined = "".join(texts)
    if joined:
        yield {"role": "system", "content": joined}


def _is_blank(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and not part.get("text")
