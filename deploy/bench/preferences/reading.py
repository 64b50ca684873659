"""A file of human pairs, one JSON object a line: TRL's forms and OpenAI's.

Owns what a line may look like and why one is left out. Pure but for reading the file. Must not
know: tokens, models.

Source: trl 1.16, "Dataset formats and types" (preference, explicit and implicit prompt); OpenAI,
"Direct preference optimization", the format of a training file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from core.errors import Invalid
from core.places import reason_of
from core.strict_json import parse_object
from feedback.learning.texts import prompt_key
from feedback.types import Message

_LONGEST_LINE = 20_000_000


@dataclass(frozen=True, slots=True)
class HumanPair:
    """A chat, the answer people preferred and the other one."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str

    @property
    def key(self) -> str:
        """Equal exactly for pairs of one prompt."""
        return prompt_key(self.prompt)


class Unusable(Exception):
    """A well-formed pair that cannot be compared; its text is the reason it is counted under."""


def read_pairs(path: Path) -> tuple[list[HumanPair], dict[str, int]]:
    """The file's pairs in order, and how many were left out by reason.

    Left out: answers that are alike or empty, more than one turn or something other than text
    after the prompt, a pair that was there already. Raises Invalid with the line's number for a
    line that is no pair at all, and for a file that cannot be read or holds no pair.
    """
    found: dict[tuple[str, str, str], HumanPair] = {}
    left_out: Counter[str] = Counter()
    for number, line in _lines(path):
        try:
            pair = pair_of(parse_object(line))
        except Unusable as reason:
            left_out[str(reason)] += 1
            continue
        except ValueError as error:
            raise Invalid(
                f"{path.name}, line {number}: {error}. Mend or remove the line."
            ) from None
        except Invalid as error:
            raise Invalid(f"{path.name}, line {number}: {error.message}") from None
        known = (pair.key, pair.chosen, pair.rejected)
        if known in found:
            left_out["repeated"] += 1
        found.setdefault(known, pair)
    if not found:
        raise Invalid(
            f"{path.name} holds no pair to compare; left out: {dict(left_out) or 'none'}."
        )
    return list(found.values()), dict(left_out)


def pair_of(row: Mapping[str, Any]) -> HumanPair:
    """The pair in one object. Raises Unusable with a reason, Invalid for what is no pair."""
    if "preferred_output" in row:
        given = row.get("input")
        prompt = given.get("messages") if isinstance(given, Mapping) else None
        chosen, rejected = row["preferred_output"], row.get("non_preferred_output")
        if prompt is None or rejected is None:
            raise Invalid("it needs input.messages, preferred_output and non_preferred_output.")
    else:
        if missing := [name for name in ("chosen", "rejected") if row.get(name) is None]:
            raise Invalid(f"{' and '.join(missing)} is missing; it needs prompt, chosen, rejected.")
        prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
        if prompt is None:
            prompt, chosen, rejected = _split(chosen, rejected)
    pair = HumanPair(_chat(prompt), _answer(chosen, "chosen"), _answer(rejected, "rejected"))
    if not pair.chosen.strip() or not pair.rejected.strip():
        raise Unusable("empty")
    if pair.chosen.strip() == pair.rejected.strip():
        raise Unusable("identical")
    return pair


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not blank, without a byte order mark."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
                if len(line) == _LONGEST_LINE:
                    raise Invalid(f"{path.name}, line {number}: longer than 20 MB. Split it.")
                stripped = (
                    line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
                )
                if stripped:
                    yield number, stripped
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {reason_of(error)}.", param="file") from error


def _split(chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
    """What both have in common is the prompt: leading messages, or text up to a space.

    Source: trl 1.16, `data_utils.extract_prompt`.
    """
    if type(chosen) is not type(rejected) or not isinstance(chosen, str | list):
        raise Invalid("prompt is missing, and chosen and rejected are not of one kind.")
    alike = (a == b for a, b in zip(chosen, rejected, strict=False))
    shared = sum(1 for _ in takewhile(bool, alike))
    if isinstance(chosen, str) and shared:
        # The first words of two answers may be alike by chance; a prompt ends at a space.
        shared = chosen.rfind(" ", 0, shared)
    if shared < 1:
        raise Invalid("prompt is missing, and chosen and rejected begin with nothing in common.")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _chat(prompt: Any) -> tuple[Message, ...]:
    """A prompt as a chat: a text is what one user said."""
    if isinstance(prompt, str):
        return ({"role": "user", "content": _unicode(prompt)},)
    if not isinstance(prompt, list) or not prompt:
        raise Invalid("prompt must be a text or a list of messages, one at least.")
    return tuple({"role": _role(one), "content": _text(one)} for one in prompt)


def _answer(said: Any, name: str) -> str:
    if isinstance(said, str):
        return _unicode(said)
    if isinstance(said, Mapping):
        said = [said]
    if not isinstance(said, list):
        raise Invalid(f"{name} must be a text or a list of messages.")
    if not said:
        raise Unusable("empty")
    if len(said) > 1:
        raise Unusable("several_turns")
    _role(said[0])
    return _text(said[0])


def _role(message: Any) -> str:
    role = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(role, str):
        raise Invalid('a message must look like {"role": "user", "content": "…"}.')
    return role


def _text(message: Mapping[str, Any]) -> str:
    """The text of a message; parts are joined by newlines."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if not texts or len(texts) < len(parts):
            raise Unusable("not_text")
        content = "\n".join(texts)
    if message.get("tool_calls") or content is None:
        raise Unusable("not_text")
    if not isinstance(content, str):
        raise Invalid("content must be a text or a list of parts.")
    return _unicode(content)


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unusable("not_unicode") from None
    return text
