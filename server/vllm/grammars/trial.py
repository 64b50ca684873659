"""One grammar tried as the engine would use it: read, compiled, followed for some tokens.

Runs in a process of its own, which whoever started it kills when its time is up. Uses xgrammar as
vLLM does. Source: vllm/v1/structured_output/backend_xgrammar.py, 0.32.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import process_time, thread_time
from typing import Any

import numpy as np
import xgrammar as xgr

_READ_S = 0.1  # the server reads it once more, on its event loop
_STEP_S = 0.02  # the engine's step waits for it, and so does everybody in it
_STEPS = 96
_SIZE_BYTES = 48_000_000
_WHERE = re.compile(r"^\[[\d:]+\] \S+?:\d+: ")
_SEPARATORS = (",", ":")


class Fault(Exception):
    """Why a grammar cannot be used. `too_complex`: because of what it costs."""

    def __init__(self, why: str, *, too_complex: bool = False) -> None:
        super().__init__(why)
        self.too_complex = too_complex


@dataclass(frozen=True, slots=True)
class Bench:
    """What a trial needs: the tokenizer, and how the engine was told to write JSON."""

    tokenizer: Any  # xgr.TokenizerInfo
    tight_json: bool
    threads: int


@dataclass(frozen=True, slots=True)
class Tried:
    """A compiled grammar. `faults`: of a set of tools, by their place, why they are not held to
    their schemas."""

    compiled: Any  # xgr.CompiledGrammar
    size_bytes: int
    faults: Mapping[int, str] = field(default_factory=dict)

    def goes_on(self, beginning: str) -> bool:
        """Whether something may follow this beginning."""
        matcher = xgr.GrammarMatcher(self.compiled)
        vocab_size = self.compiled.tokenizer_info.vocab_size
        mask = xgr.allocate_token_bitmask(1, vocab_size)
        if not matcher.accept_string(beginning):
            return False
        matcher.fill_next_token_bitmask(mask)
        return bool(mask.numpy().any())


def try_grammar(bench: Bench, kind: str, text: str) -> Tried:
    """Raises Fault."""
    read, compile_ = _ways(bench, kind, text)
    began = process_time()
    said(read)
    if process_time() - began > _READ_S:
        raise Fault("it takes too long to read", too_complex=True)
    compiled = said(compile_)
    size_bytes = int(compiled.memory_size_bytes)
    if size_bytes > _SIZE_BYTES:
        raise Fault("compiled, it takes too much memory", too_complex=True)
    _follow(compiled, bench.tokenizer.vocab_size)
    return Tried(compiled, size_bytes)


def _ways(bench: Bench, kind: str, text: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """How it is read, and how it is compiled."""
    grammar = xgr.Grammar
    compiler = xgr.GrammarCompiler(bench.tokenizer, max_threads=bench.threads, cache_enabled=False)
    if kind == "json":
        separators = _SEPARATORS if bench.tight_json else None
        return lambda: grammar.from_json_schema(text), lambda: compiler.compile_json_schema(
            text, any_whitespace=not bench.tight_json, separators=separators
        )
    if kind == "regex":
        return lambda: grammar.from_regex(text), lambda: compiler.compile_regex(text)
    if kind == "lark":
        return lambda: grammar.from_lark(text), lambda: compiler.compile_lark(text)
    if kind == "ebnf":
        return lambda: grammar.from_ebnf(text), lambda: compiler.compile_grammar(text)
    tag = _decoded(text)
    if "structures" in tag:
        if not isinstance(tag.get("triggers"), list):
            raise Fault("it has no list of triggers")
        tags = said(lambda: [_item(each) for each in tag["structures"]])
        return (
            lambda: grammar.from_structural_tag(tags, tag["triggers"]),
            lambda: compiler.compile_structural_tag(tags, tag["triggers"]),
        )
    return (
        lambda: grammar.from_structural_tag(text),
        lambda: compiler.compile_structural_tag(text),
    )


def _item(structure: dict[str, Any]) -> Any:
    try:
        schema = json.dumps(structure["schema"])
        return xgr.StructuralTagItem(begin=structure["begin"], schema=schema, end=structure["end"])
    except (KeyError, TypeError) as error:
        raise Fault("each of its structures needs begin, schema and end") from error


def _decoded(text: str) -> dict[str, Any]:
    tag = said(lambda: json.loads(text))
    if not isinstance(tag, dict):
        raise Fault("it is no JSON object")
    return tag


def said(step: Callable[[], Any]) -> Any:
    """The step's value; what it raises in its words, less the place in its source."""
    try:
        return step()
    except (MemoryError, Fault):
        raise
    except Exception as error:  # xgrammar raises whatever its C++ raised
        words = _WHERE.sub("", str(error)).strip().partition("\n")[0]
        raise Fault(words[:300] or type(error).__name__) from error


def _follow(compiled: Any, vocab_size: int) -> None:
    """Go along tokens it allows, at random but alike each time: is there always one, and soon?"""
    matcher = xgr.GrammarMatcher(compiled)
    mask = xgr.allocate_token_bitmask(1, vocab_size)
    chance = np.random.default_rng(0)
    for _ in range(_STEPS):
        began = thread_time()
        matcher.fill_next_token_bitmask(mask)
        took_s = thread_time() - began
        bits = np.unpackbits(mask.numpy().view(np.uint8), bitorder="little")[:vocab_size]
        allowed = np.flatnonzero(bits)
        if not len(allowed):
            raise Fault("no text fits it: it comes to a point where nothing may follow")
        began = thread_time()
        matcher.accept_token(int(chance.choice(allowed)))
        if took_s + thread_time() - began > _STEP_S:
            raise Fault("it takes too long to follow", too_complex=True)
        if matcher.is_terminated():
            return
