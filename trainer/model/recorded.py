"""Token ids of what was recorded: those that were served, or what must have been.

Owns when a text that goes through the template is what was served, and what is too long. Must not
know: weights, torch, what the examples are for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from core.errors import Invalid
from feedback.learning.recorded import Recorded, Refused
from feedback.token_ids import Ids
from trainer.model.encoding import closing, encode, encode_prompt, encode_text, encode_turn
from trainer.types import Prompt


class Encoder:
    """The `Encode` of a trainer with this tokenizer, which takes `max_length` tokens at most.

    Raises Refused with `not_as_served`, `refused_by_template`, `empty_prompt` or `too_long`.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._vocabulary = len(tokenizer)
        self._closing = cache(lambda chat: closing(tokenizer, chat=chat))

    def __call__(self, recorded: Recorded) -> tuple[Ids, Ids]:
        """The ids of the prompt and of the answer, as they were served where that is known."""
        prompt_ids, ids = recorded.prompt_ids, recorded.ids
        if prompt_ids is None:
            prompt_ids, ids = self._through_template(recorded)
        elif ids is None:
            ids = self._written(recorded)
        if not prompt_ids:
            raise Refused("empty_prompt")
        if max(max(prompt_ids), max(ids, default=0)) >= self._vocabulary:
            raise Refused("not_as_served")  # a device can send what no model has sampled
        if len(prompt_ids) + len(ids) > self._max_length:
            raise Refused("too_long")
        return prompt_ids, ids

    def _through_template(self, recorded: Recorded) -> tuple[Ids, Ids]:
        """Of a record without ids. It is taken where its lengths are those that were counted."""
        prompt = recorded.prompt
        try:
            head, ids = encode(self._tokenizer, prompt, recorded.text)
            if recorded.counted is not None and not self._as_counted(recorded, head, ids):
                raise Refused("not_as_served")
            return head, ids[: len(ids) - len(self._end(prompt))] if recorded.cut else ids
        except Invalid as error:
            raise Refused("refused_by_template") from error

    def _as_counted(self, recorded: Recorded, head: Ids, ids: Ids) -> bool:
        """Whether the engine read and sampled as many tokens as the template makes.

        Of what closes an answer one token was sampled, the end token; of one that was cut none.
        What the template puts behind the end token no model samples.
        """
        counted, prompt = recorded.counted, recorded.prompt
        assert counted is not None
        if counted.prompt_tokens is not None and not (
            len(head) == len(encode_prompt(self._tokenizer, prompt)) == counted.prompt_tokens
        ):
            return False
        if counted.completion_tokens is None:
            return True
        others = [text for text in counted.answers if text != recorded.text]
        same = len(counted.answers) - len(others)
        sampled = same * len(ids)
        sampled += sum(len(encode(self._tokenizer, prompt, text)[1]) for text in others)
        behind = len(self._end(prompt)) - (not recorded.cut)
        return sampled - behind * len(counted.answers) == counted.completion_tokens

    def _written(self, recorded: Recorded) -> Ids:
        """Of a text that somebody wrote, in the place of the answer that was served.

        Of a turn or a text that was begun the answer is the rest: who sends the whole is taken at
        that, unless the model itself began anew.
        """
        prompt, text, given = recorded.prompt, recorded.text, recorded.instead_of
        begun = _begun(prompt)
        sampled = list((given.ids if given else None) or ())
        shown = self._decoded(sampled)
        if begun and text.startswith(begun) and not shown.startswith(begun):
            text = text.removeprefix(begun)
            if text.strip() == shown.strip():
                raise Refused("unchanged_correction")
        if not text.strip():
            raise Refused("empty_answer")
        before = self._unseen(given) if given is not None else []
        if not before and not begun and not isinstance(prompt, str):
            return encode_turn(self._tokenizer, text)
        return [*before, *encode_text(self._tokenizer, text), *self._end(prompt)]

    def _unseen(self, given: Recorded) -> list[int]:
        """What was sampled before the text that people read: what the model thought.

        Whoever edits an answer does not mean that nothing should be thought.
        """
        ids, seen = list(given.ids or ()), given.text.strip()
        at = self._decoded(ids).rfind(seen) if seen else 0
        if at <= 0 or self._decoded(ids).strip() == seen:
            return []
        low, high = 0, len(ids)
        while low < high:  # the longest start that ends before the text begins
            middle = (low + high + 1) // 2
            if len(self._decoded(ids[:middle])) <= at:
                low = middle
            else:
                high = middle - 1
        return ids[:low]

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _end(self, prompt: Prompt) -> Ids:
        ids: Ids = self._closing(not isinstance(prompt, str))
        return ids


def _begun(prompt: Prompt) -> str:
    """What a prompt ends with that its answer goes on from: a plain text, or a turn's beginning."""
    if isinstance(prompt, str):
        return prompt
    last = prompt[-1] if prompt else {}
    text = last.get("content") if last.get("role") == "assistant" else ""
    return text if isinstance(text, str) else ""
