"""What a trainer cannot take: told without making tokens only where tokens would say the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from core.errors import Invalid
from trainer.model.encoding import encode
from trainer.model.lengths import Lengths

LONGEST = 120


class Characters:
    """A tokenizer whose tokens are bytes, with a template of ten around each message."""

    eos_token = "\0"

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, text: str) -> dict[str, list[int]]:
        self.made += 1
        return {"input_ids": list(text.encode())}

    def apply_chat_template(
        self, messages: list[dict[str, Any]], *, add_generation_prompt: bool, **_: Any
    ) -> dict[str, list[int]]:
        if messages[0]["role"] == "assistant":
            raise TemplateError("conversations begin with the user")
        self.made += 1
        told = "".join(f"<{m['role'][:4]:4}>{m['content']}</m>" for m in messages)
        return {"input_ids": list((told + "<assi>" * add_generation_prompt).encode())}


def by_encoding(prompt: Any, answer: str) -> str | None:
    try:
        tokens = encode(Characters(), prompt, answer)
    except Invalid:
        return "refused_by_template"
    return "too_long" if sum(map(len, tokens)) > LONGEST else None


texts = st.text("aä€", max_size=60)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": texts}
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(texts, st.lists(turns, min_size=1, max_size=3).map(tuple)), texts)
def test_it_is_what_encoding_says(prompt: Any, answer: str) -> None:
    assert Lengths(Characters(), LONGEST)(prompt, answer, None) == by_encoding(prompt, answer)


@pytest.mark.parametrize(("size", "reason"), [(89, None), (90, None), (91, "too_long")])
def test_the_longest_that_fits_is_taken(size: int, reason: str | None) -> None:
    """Frame: <user></m> and <assi></m> are 20, the answer is 10."""
    prompt = ({"role": "user", "content": "x" * size},)
    assert Lengths(Characters(), LONGEST)(prompt, "y" * 10, None) == reason


def test_what_is_surely_short_costs_no_tokens() -> None:
    tokenizer = Characters()
    lengths = Lengths(tokenizer, LONGEST)
    prompt = ({"role": "user", "content": "x"},)
    assert lengths(prompt, "y", None) is None
    made = tokenizer.made
    assert lengths(prompt, "y", None) is None
    assert lengths(({"role": "user", "content": "x" * 70},), "y" * 20, 40) is None
    assert tokenizer.made == made
    assert lengths(({"role": "user", "content": "x" * 70},), "y" * 20, 119) is None
    assert tokenizer.made > made
