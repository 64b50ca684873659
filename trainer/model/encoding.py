"""Template and token ids: what a prompt and its completions are to the base model.

Owns where a prompt ends and its completion begins; nowhere else is text made ids. Must not know:
weights, devices, torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from jinja2 import TemplateError

from core.errors import Invalid
from feedback.token_ids import unpack_ids
from trainer.types import Prompt

Tokens = tuple[list[int], ...]
"""The ids of a prompt, then those of each of its completions."""

_PROBE: Prompt = ({"role": "user", "content": "x"},)


def tokens_of(
    tokenizer: Any, ids: Sequence[bytes] | None, prompt: Prompt, *completions: str
) -> Tokens:
    """The tokens of an example: its `ids` as they were served, where it has them.

    This is the one place between what was served and what is trained or judged. Raises Invalid as
    `encode` does.
    """
    if ids is not None:
        return tuple(map(unpack_ids, ids))
    return encode(tokenizer, prompt, *completions)


def encode(tokenizer: Any, prompt: Prompt, *completions: str) -> Tokens:
    """Token ids of the prompt and of each completion, split where TRL splits them.

    Messages go through the chat template, so a completion carries the template's end of turn;
    plain text gets the end token. Where the completions share less of the prompt than its
    template has, the prompt ends earlier for all. Raises Invalid when the template refuses them.

    Source: trl 1.16, `KTOTrainer._prepare_dataset`.
    """
    head = encode_prompt(tokenizer, prompt)
    whole = [_encode_whole(tokenizer, prompt, completion) for completion in completions]
    columns = zip(head, *whole, strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len({*column}) == 1, columns))
    return head[:shared], *(ids[shared:] for ids in whole)


def encode_prompt(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids a completion of `prompt` is sampled after."""
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    return _apply_template(tokenizer, [*map(dict, prompt)], add_generation_prompt=True)


def encode_turn(tokenizer: Any, text: str) -> list[int]:
    """A whole turn of the assistant after any prompt, closed as the template closes it."""
    return encode(tokenizer, _PROBE, text)[1]


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Text alone, as it goes on in the middle of something."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def closing(tokenizer: Any, *, chat: bool) -> list[int]:
    """What is put behind every completion: the end of a turn, or of a plain text the end token."""
    if not chat:
        return encode_text(tokenizer, tokenizer.eos_token or "")
    pair = zip(*(reversed(encode_turn(tokenizer, text)) for text in ("x", "y")), strict=False)
    return [one for one, _ in takewhile(lambda both: both[0] == both[1], pair)][::-1]


def _encode_whole(tokenizer: Any, prompt: Prompt, completion: str) -> list[int]:
    if isinstance(prompt, str):
        end = tokenizer.eos_token or ""
        text = prompt + completion
        return list(tokenizer(text if text.endswith(end) else text + end)["input_ids"])
    said = [*map(dict, prompt), {"role": "assistant", "content": completion}]
    return _apply_template(tokenizer, said, add_generation_prompt=False)


def _apply_template(
    tokenizer: Any, messages: list[dict[str, Any]], add_generation_prompt: bool
) -> list[int]:
    try:
        return list(
            tokenizer.apply_chat_template(
                messages,
                tokenize=True,
                return_dict=True,
                add_generation_prompt=add_generation_prompt,
            )["input_ids"]
        )
    except (TemplateError, TypeError, LookupError, ValueError, AttributeError) as error:
        raise Invalid(f"The model's chat template refuses these messages: {error}") from error
