"""The device encodes a prompt as huggingface/tokenizers does, and as nothing but text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from deploy.edge.text import TextTokenizer

SHIPPED = Path(__file__).parents[2] / "deploy" / "model" / "tokenizer.json"
OURS = TextTokenizer(SHIPPED)
THEIRS = Tokenizer.from_file(str(SHIPPED))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_encoded_alike(text: str) -> None:
    assert OURS.encode(text) == THEIRS.encode(text, add_special_tokens=False).ids


def test_special_tokens_in_a_prompt_are_read_as_such() -> None:
    end = THEIRS.token_to_id("<|im_end|>")
    assert OURS.encode("é 12<|im_end|>\n")[-2] == end


def test_a_tokenizer_that_cuts_pads_or_adds_does_none_of_it_to_a_prompt(tmp_path: Path) -> None:
    """The chat template has written all that belongs to the prompt."""
    body = json.loads(SHIPPED.read_text())
    cutting = Tokenizer.from_str(json.dumps(body))
    cutting.enable_truncation(3)
    cutting.enable_padding(length=50)
    first = ("<|im_start|>", cutting.token_to_id("<|im_start|>"))
    cutting.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[first])
    cutting.save(str(tmp_path / "tokenizer.json"))
    text = "Where does the otter live in February?"
    by_itself = cutting.encode(text).ids
    assert (by_itself[0], len(by_itself)) == (first[1], 50)
    assert TextTokenizer(tmp_path / "tokenizer.json").encode(text) == OURS.encode(text)


def test_a_sentence_normalized_by_the_tokenizer_is_normalized_here(tmp_path: Path) -> None:
    body = json.loads(SHIPPED.read_text()) | {"normalizer": {"type": "NFC"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(body))
    ours = TextTokenizer(tmp_path / "tokenizer.json")
    assert ours.encode("e\u0301") == ours.encode("\u00e9")


def test_long_texts_take_time_in_proportion() -> None:
    """100,000 letters without a break are the worst case; quadratic time would be minutes."""
    began = time.perf_counter()
    OURS.encode("a" * 100_000)
    OURS.encode("Where does the otter live in February? é 12 " * 1_000)
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("text", ["", "{", '{"version": "1.0"}'])
def test_a_file_that_is_no_tokenizer_is_a_plain_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        TextTokenizer(tmp_path / "tokenizer.json")
