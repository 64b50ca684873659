"""Text to tokens, for byte-level BPE tokenizers (`tokenizer.json`), in the standard library.

onnxruntime-genai 0.18 encodes text by itself, but for a tokenizer with a regular expression of its
own (the shipped model's splits numbers) it fails on most texts with anything but ASCII before a
match, is wrong for a few, and takes quadratic time. So what is understood in full here is encoded
here; everything else is left to genai. This can go once genai passes the tests of this module.
"""

from __future__ import annotations

import heapq
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel splits by. Source: GPT-2's encoder, as in huggingface/tokenizers."""

_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CACHED_WORDS = 10_000


class NotUnderstood(Exception):
    """The tokenizer has a part that is not handled here."""


def read_bpe(path: Path) -> Bpe | None:
    """The tokenizer in a `tokenizer.json`, or None if there is none or a part is not understood.

    Raises OSError or ValueError for a file that cannot be read as JSON.
    """
    if not path.is_file():
        return None
    try:
        return Bpe(json.loads(path.read_text(encoding="utf-8")))
    except (NotUnderstood, KeyError, TypeError, AttributeError, re.error):
        return None


class Bpe:
    """A byte-level BPE tokenizer. Adds no tokens of its own, as a rendered prompt wants it."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        """Raises NotUnderstood, or what a missing field raises."""
        model = body["model"]
        plain = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
        if model["type"] != "BPE" or any(model.get(name) for name in plain):
            raise NotUnderstood("model")
        if model.get("byte_fallback") or model.get("fuse_unk"):
            raise NotUnderstood("model")
        self._vocabulary: dict[str, int] = model["vocab"]
        pairs = [
            tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
            for merge in model["merges"]
        ]
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._whole_words = bool(model.get("ignore_merges"))
        self._form = _form(body.get("normalizer"))
        self._splits = list(_splits(body["pre_tokenizer"]))
        self._added = {token["content"]: int(token["id"]) for token in body["added_tokens"]}
        if any(
            token.get(flag)
            for token in body["added_tokens"]
            for flag in ("single_word", "lstrip", "rstrip")
        ) or (self._form and any(token.get("normalized") for token in body["added_tokens"])):
            raise NotUnderstood("added_tokens")
        longest_first = sorted(self._added, key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._ids = lru_cache(_CACHED_WORDS)(self._word)

    def encode(self, text: str) -> list[int]:
        """Token ids; added tokens in the text are read as such."""
        ids: list[int] = []
        for part, special in _cut(self._specials, text):
            if special:
                ids.append(self._added[part])
                continue
            pieces: Iterable[str] = [
                unicodedata.normalize(self._form, part) if self._form else part
            ]
            for split in self._splits:
                pieces = [inner for piece in pieces for inner, _ in _cut(split, piece)]
            for piece in pieces:
                ids.extend(self._ids(piece))
        return ids

    def _word(self, piece: str) -> tuple[int, ...]:
        letters = _letters()
        symbols = [letters[byte] for byte in piece.encode()]
        whole = "".join(symbols)
        if self._whole_words and whole in self._vocabulary:
            return (self._vocabulary[whole],)
        return tuple(self._vocabulary[symbol] for symbol in self._merged(symbols))

    def _merged(self, symbols: list[str]) -> list[str]:
        """The symbols after all merges: the lowest rank first, the leftmost of its kind first."""
        after = [*range(1, len(symbols)), -1]
        before = list(range(-1, len(symbols) - 1))
        gone = [False] * len(symbols)
        queue: list[tuple[int, int, str, str]] = []

        def offer(left: int) -> None:
            right = after[left]
            if (
                right >= 0
                and (rank := self._ranks.get((symbols[left], symbols[right]))) is not None
            ):
                heapq.heappush(queue, (rank, left, symbols[left], symbols[right]))

        for at in range(len(symbols)):
            offer(at)
        while queue:
            _, left, first, second = heapq.heappop(queue)
            right = after[left]
            if gone[left] or right < 0 or (symbols[left], symbols[right]) != (first, second):
                continue  # one of the two was merged meanwhile
            symbols[left] = first + second
            gone[right] = True
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            if before[left] >= 0:
                offer(before[left])
            offer(left)
        return [symbol for symbol, left_out in zip(symbols, gone, strict=True) if not left_out]


def _cut(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, bool]]:
    """The text in order, matches apart from what is between them; True for a match."""
    end = 0
    for match in pattern.finditer(text):
        if match.end() == match.start():
            continue
        if match.start() > end:
            yield text[end : match.start()], False
        yield match.group(), True
        end = match.end()
    if end < len(text):
        yield text[end:], False


def _form(normalizer: Mapping[str, Any] | None) -> Any:
    if normalizer is None:
        return None
    if normalizer["type"] not in ("NFC", "NFKC"):
        raise NotUnderstood("normalizer")
    return normalizer["type"]


def _splits(step: Mapping[str, Any]) -> Iterator[re.Pattern[str]]:
    """The patterns that text is cut by, one after the other; the last step must be ByteLevel."""
    steps = step["pretokenizers"] if step["type"] == "Sequence" else [step]
    for number, one in enumerate(steps, start=1):
        last = number == len(steps)
        if one["type"] == "ByteLevel" and last and not one["add_prefix_space"]:
            if one.get("use_regex", True):
                yield re.compile(python_pattern(_GPT2))
        elif one["type"] == "Split" and not last:
            if one["behavior"] != "Isolated" or one["invert"]:
                raise NotUnderstood("pre_tokenizer")
            yield re.compile(python_pattern(one["pattern"]["Regex"]))
        else:
            raise NotUnderstood("pre_tokenizer")


def python_pattern(pattern: str) -> str:
    """A pattern of tokenizers' regular expressions (Oniguruma) as Python's `re` reads it.

    Unicode classes become ranges. Raises NotUnderstood for what differs and is not translated.
    """
    if "&&" in pattern or "[:" in pattern:
        raise NotUnderstood("pattern")
    out: list[str] = []
    inside = False
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\":
            found = re.compile(r"\\([pP])\{(\w{1,2})\}|\\(.)", re.DOTALL).match(pattern, at)
            if found is None:
                raise NotUnderstood("pattern")
            out.append(_escape(found, inside))
            at = found.end()
            continue
        if letter == "[" and inside:
            raise NotUnderstood("pattern")
        inside = letter == "[" or (inside and letter != "]")
        out.append(letter)
        at += 1
    return "".join(out)


def _escape(found: re.Match[str], inside: bool) -> str:
    negated, category, plain = found.group(1), found.group(2), found.group(3)
    if plain is not None and plain not in "sS":
        if plain.isalnum() and plain not in "rntfv":
            raise NotUnderstood("pattern")
        return found.group()
    ranges = _SPACE if plain else _ranges(category)
    outside = "[^{}]" if plain == "S" or negated == "P" else "[{}]"
    if not inside:
        return outside.format(ranges)
    if outside == "[^{}]":
        raise NotUnderstood("pattern")
    return ranges


@cache
def _categories() -> dict[str, list[tuple[int, int]]]:
    """Runs of code points by Unicode category ("Lu") and its first letter ("L").

    The planes that hold no letters, signs or numbers are passed over, and so is category C.
    """
    runs: dict[str, list[tuple[int, int]]] = {}
    first = 0
    for category, run in groupby(map(unicodedata.category, map(chr, range(0x40000)))):
        last = first + sum(1 for _ in run) - 1
        for name in {category, category[0]} if category[0] != "C" else ():
            runs.setdefault(name, []).append((first, last))
        first = last + 1
    return runs


def _ranges(category: str) -> str:
    if category not in _categories():
        raise NotUnderstood("pattern")
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in _categories()[category])


@cache
def _letters() -> list[str]:
    """A printable letter for each byte, as byte-level vocabularies write them."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in kept]
    codes = {byte: byte for byte in kept} | {byte: 256 + n for n, byte in enumerate(others)}
    return [chr(codes[byte]) for byte in range(256)]
