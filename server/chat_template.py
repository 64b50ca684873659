"""What the engine makes of a conversation before its chat template sees it: how a record reads.

Pure. What is said here of the engine is vLLM 0.32's doing (`renderers/hf.py`,
`renderers/chat_utils.py`); with another release, look there again. Must not know endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Message = Mapping[str, Any]

_TEXT = dict.fromkeys(("text", "input_text", "output_text"), "text") | {"refusal": "refusal"}


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """What of the template decides how messages reach it.

    `joins_parts`: it reads a text, so parts of one are joined by line breaks. `knows_developer`:
    else that role becomes `system`, and all of these one, at the beginning. `system_first`: it
    takes one system message, at the beginning.
    """

    joins_parts: bool = True
    knows_developer: bool = False
    system_first: bool = False

    def as_read(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """The messages as the template reads them; what is not text stays as it was sent."""
        read = [self._joined(message) for message in messages]
        if self.knows_developer or all(one.get("role") != "developer" for one in read):
            return tuple(read)
        return _with_one_system([_as_system(one) for one in read])

    def _joined(self, message: Message) -> Message:
        content = message.get("content")
        if not isinstance(content, list) or not (self.joins_parts or message.get("role") == "tool"):
            return message
        texts = texts_of(content)
        return message if texts is None else {**message, "content": "\n".join(texts)}


PLAIN_TEMPLATE: Final = ChatTemplate()


def texts_of(parts: Sequence[Any]) -> list[str] | None:
    """The texts of parts that are nothing else; None where there is more to them."""
    texts = [part if isinstance(part, str) else _text(part) for part in parts]
    return None if None in texts else [text for text in texts if text is not None]


def _text(part: object) -> str | None:
    if not isinstance(part, Mapping):
        return None
    kind = part.get("type", "text")
    text = part.get(_TEXT.get(kind, "")) if isinstance(kind, str) else None
    return text if isinstance(text, str) else None


def _as_system(message: Message) -> Message:
    if message.get("role") != "developer":
        return message
    return {**{key: value for key, value in message.items() if key != "tools"}, "role": "system"}


def _with_one_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """All that is said as the system in one message, at the beginning, if it is text."""
    said = [message for message in messages if message.get("role") == "system"]
    texts = [_whole(message.get("content")) for message in said]
    if said == [messages[0]] or None in texts:
        return tuple(messages)
    merged = {"role": "system", "content": "\n\n".join(text for text in texts if text)}
    return merged, *(message for message in messages if message.get("role") != "system")


def _whole(content: Any) -> str | None:
    texts = texts_of(content) if isinstance(content, list) else [content or ""]
    return None if texts is None else "\n".join(texts)
