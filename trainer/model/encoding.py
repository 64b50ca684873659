"""Template and token ids: what a prompt and its completions are to the base model.

Owns where a prompt ends and its completion begins. Must not know: weights, devices, torch.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from jinja2 import TemplateError

from core.errors import Invalid
from trainer.types import Prompt

Tokens = tuple[list[int], ...]
"""The ids of a prompt, then those of each of its completions."""


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
