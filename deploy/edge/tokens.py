"""Text to tokens by huggingface/tokenizers, where an export has a `tokenizer.json`.

onnxruntime-genai 0.18 encodes text by itself, but for a tokenizer with a regular expression of its
own (the shipped model's splits numbers) it fails on most texts with anything but ASCII before a
match, is wrong for a few, and takes quadratic time. This can go once genai passes our tests.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer


class TextTokenizer:
    """A `tokenizer.json`. Adds no tokens of its own, as a rendered prompt wants it."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError for a file that is no tokenizer."""
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path.name}: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, text: str) -> list[int]:
        """Token ids; added tokens in the text are read as such."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
