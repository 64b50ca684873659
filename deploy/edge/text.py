"""Text on its way in and out: tokens of a prompt, stop strings in a stream."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer


class TextTokenizer:
    """A `tokenizer.json`, by huggingface/tokenizers. Adds no tokens of its own.

    onnxruntime-genai 0.18 encodes text by itself, but for a tokenizer with a regular expression of
    its own (the shipped model's splits numbers) it fails on most texts with anything but ASCII
    before a match, is wrong for a few, and takes quadratic time. This can go once genai passes our
    tests.
    """

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


class StopScan:
    """Passes text on until a stop string appears; holds back what may be the start of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The part of what came so far that is sure to belong to the answer."""
        if self.stopped:
            return ""
        self._held += text
        at = min(
            (where for stop in self._stops if (where := self._held.find(stop)) >= 0), default=-1
        )
        if at >= 0:
            self.stopped = True
            return self._take(at)
        return self._take(len(self._held) - self._unsure())

    def flush(self) -> str:
        """The rest, once no more text will come; empty after a stop."""
        return "" if self.stopped else self._take(len(self._held))

    def _take(self, count: int) -> str:
        out, self._held = self._held[:count], self._held[count:]
        return out

    def _unsure(self) -> int:
        """Length of the longest end of the held text that begins some stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0
