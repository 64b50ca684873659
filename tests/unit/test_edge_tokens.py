"""The device's own tokenizer gives the tokens of huggingface/tokenizers, for every text."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from deploy.edge.tokens import Bpe, NotUnderstood, python_pattern, read_bpe

SHIPPED = Path(__file__).parents[2] / "deploy" / "model" / "tokenizer.json"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
WORDS = [
    "the",
    "otter's",
    "can't",
    "I'LL",
    "12",
    "345",
    "house",
    "",
    "town",
    "February?",
    "é",
    "你好",
    "😀",
    "\n",
    "\n\n",
    "\t",
    "<|im_end|>",
    "x_y-z",
    "...",
    "!!!",
    "3.14",
    "1,000",
    "__init__",
    "http://a.b/c?d=1",
    "ñandú",
    "A1b2",
    "\xa0",
    "don’t",
    "aaaaaaaa",
    "\u2003",
    "½",
    "Ⅻ",
]


def body(pattern: str | None = None, **model: Any) -> dict[str, Any]:
    """The shipped tokenizer, perhaps with another's pre-tokenizer."""
    found: dict[str, Any] = json.loads(SHIPPED.read_text())
    if pattern is not None:
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
        steps = [{**split, "invert": False}, {**level, "use_regex": False}]
        found["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    found["model"].update(model)
    return found


BODIES = {
    "shipped": body(),
    "llama3": body(LLAMA3, ignore_merges=True),
    "qwen2": {**body(QWEN2), "normalizer": {"type": "NFC"}},
    "gpt2": {**body(), "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
                                         "trim_offsets": True, "use_regex": True}},
}  # fmt: skip
for token in BODIES["qwen2"]["added_tokens"]:
    token["normalized"] = False
OURS = {name: Bpe(found) for name, found in BODIES.items()}
THEIRS = {name: Tokenizer.from_str(json.dumps(found)) for name, found in BODIES.items()}


@pytest.mark.parametrize("name", BODIES)
def test_two_thousand_mixed_texts_are_encoded_alike(name: str) -> None:
    draw = random.Random(1)
    for _ in range(2_000):
        words = [draw.choice(WORDS) for _ in range(draw.randint(1, 12))]
        text = draw.choice([" ", "", "  ", "\n"]).join(words)
        theirs = THEIRS[name].encode(text, add_special_tokens=False).ids
        assert OURS[name].encode(text) == theirs, text


@pytest.mark.parametrize("name", BODIES)
@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_encoded_alike(name: str, text: str) -> None:
    assert OURS[name].encode(text) == THEIRS[name].encode(text, add_special_tokens=False).ids


def test_long_texts_take_time_in_proportion() -> None:
    """100,000 letters without a break are the worst case; quadratic time would be minutes."""
    began = time.perf_counter()
    OURS["shipped"].encode("a" * 100_000)
    OURS["shipped"].encode("Where does the otter live in February? é 12 " * 1_000)
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        {"model": {"type": "WordLevel", "vocab": {}}},
        {"model": {**body()["model"], "byte_fallback": True}},
        {"pre_tokenizer": body(r"\w+")["pre_tokenizer"]},
        {"pre_tokenizer": body(r"[a-z&&[^x]]")["pre_tokenizer"]},
        {"pre_tokenizer": body(r"[\S]+")["pre_tokenizer"]},
        {"pre_tokenizer": None},
    ],
)
def test_a_tokenizer_that_is_not_understood_is_left_alone(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**body(), **change}))
    assert read_bpe(path) is None


def test_a_pattern_is_translated_or_refused() -> None:
    assert python_pattern(r" ?[0-9]{1,2}") == r" ?[0-9]{1,2}"
    with pytest.raises(NotUnderstood):
        python_pattern(r"\h+")
