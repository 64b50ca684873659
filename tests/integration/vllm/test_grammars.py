"""The process that tries grammars, with the shipped model's tokenizer and vLLM's own spelling."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
import xgrammar as xgr
from transformers import AutoTokenizer

from core.errors import Unavailable
from core.settings import SHIPPED_MODEL
from server.engine.grammars import Grammar, Kind
from server.vllm.grammars.engine import setup_of, spelled
from server.vllm.grammars.process import GrammarProcess
from server.vllm.tool_parser import AttuneHermesToolParser

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 2.0
SLOW_TO_FOLLOW = "\n".join(
    ("root ::= " + " ".join(["a"] * 400) + ' root | "a"', "a ::= [a-z]* | b", "b ::= [a-m]* a?")
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(SHIPPED_MODEL)


@pytest.fixture(scope="module")
def config(tokenizer: Any) -> Any:
    """What of vLLM's configuration its backend reads."""
    return SimpleNamespace(
        structured_outputs_config=SimpleNamespace(backend="xgrammar", disable_any_whitespace=True),
        model_config=SimpleNamespace(
            hf_config=SimpleNamespace(model_type="llama"), get_vocab_size=lambda: len(tokenizer)
        ),
        speculative_config=None,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(config: Any, tokenizer: Any) -> AsyncIterator[GrammarProcess]:
    process = GrammarProcess(lambda: setup_of(config, tokenizer), spelled, limit_s=LIMIT_S)
    await process.start()
    yield process
    await process.stop()


def text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def words(count: int, length: int) -> list[str]:
    chance = random.Random(1)
    return ["".join(chance.choices("abcdefgh ", k=length)) for _ in range(count)]


@pytest.mark.parametrize(
    ("kind", "grammar"),
    [
        ("json", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        ("json", {"$defs": {"n": {"type": "object", "properties": {"c": {"$ref": "#/$defs/n"}}}},
                  "$ref": "#/$defs/n"}),
        ("json", {"enum": [f"value {n}" for n in range(1_000)]}),
        ("json", {"type": "string", "maxLength": 10**9}),
        ("regex", r"\+\d{1,3} \d{3}-\d{4}"),
        ("regex", "(a+)+b"),
        ("regex", "(a{1000}){1000}"),
        ("choice", ["yes", "no", 'a "quoted" one', "two\nlines"]),
        ("choice", words(100, 100)),
        ("grammar", 'root ::= "a" root | "b"'),
        ("grammar", 'start: "a"+'),
        ("structural_tag", {"structures": [{"begin": "<a>", "schema": {}, "end": "</a>"}],
                            "triggers": ["<a"]}),
        ("tools", [["f", {"type": "object"}], ["f", {"type": "object"}], ["ä/b", {}]]),
    ],
)  # fmt: skip
async def test_honest_grammars_pass(process: GrammarProcess, kind: Kind, grammar: Any) -> None:
    verdict = await process.compile(Grammar(kind, text(grammar)))
    assert (verdict.fault, dict(verdict.faults)) == (None, {})
    assert verdict.size_bytes > 0


@pytest.mark.parametrize(
    ("kind", "grammar", "says"),
    [
        ("grammar", "root ::= root", "no text fits it"),
        ("grammar", 'root ::= "a" b\nb ::= b', "no text fits it"),
        ("grammar", "root ::= b", "not defined"),
        ("grammar", 'a ::= "b"', "root"),
        ("grammar", "root ::= " + "(" * 9_000 + '"a"' + ")" * 9_000, "Nest"),
        ("regex", "(", "parenthesis"),
        ("regex", "(?<=a)b", "not supported"),
        ("choice", [], ""),
        ("json", "{", "JSON"),
        ("json", {"enum": []}, "enum"),
        ("json", {"type": "any"}, "any"),
        ("json", {"$ref": "#"}, "no text fits it"),
        ("json", {"$ref": "#/nope"}, "nope"),
        ("json", {"type": "integer", "minimum": 5, "maximum": 1}, "minimum"),
        ("structural_tag", "[]", "JSON object"),
        ("structural_tag", {"structures": [{}], "triggers": []}, "begin"),
    ],
)  # fmt: skip
async def test_what_cannot_be_compiled_is_told_without_a_place_in_a_source(
    process: GrammarProcess, kind: Kind, grammar: Any, says: str
) -> None:
    verdict = await process.compile(Grammar(kind, text(grammar)))
    assert verdict.fault is not None
    assert says in verdict.fault
    assert not verdict.too_complex
    assert ".cc" not in verdict.fault
    assert len(verdict.fault) <= 300


@pytest.mark.parametrize(
    ("kind", "grammar"),
    [
        ("choice", words(500, 500)),
        ("choice", words(1_000, 1_000)),
        ("json", {"type": "object", "properties": {f"f{n}": {} for n in range(5_000)}}),
        ("json", {"type": "string", "pattern": "|".join(f"(.*{n}.*)" for n in range(9_000))}),
        ("grammar", SLOW_TO_FOLLOW),
    ],
)
async def test_what_takes_too_much_is_given_up_in_time(
    process: GrammarProcess, kind: Kind, grammar: Any
) -> None:
    async with asyncio.timeout(LIMIT_S + 4):
        verdict = await process.compile(Grammar(kind, text(grammar)))
    assert verdict.too_complex
    assert (await process.compile(Grammar("regex", "a"))).fault is None  # well again at once


async def test_awkward_tools_are_told_apart(process: GrammarProcess) -> None:
    awkward: list[Any] = [
        {"type": "object", "properties": {"x": {"type": "integer", "exclusiveMinimum": True}}},
        {"type": "object", "required": None},
        {"type": "array", "items": [{"type": "string"}]},
        {"type": "any"},
        {"enum": []},
        {"$ref": "#"},
    ]
    good = ["good", {"type": "object", "properties": {"q": {"type": "string"}}}]
    named = [good, *([f"t{n}", schema] for n, schema in enumerate(awkward)), good]
    verdict = await process.compile(Grammar("tools", text(named)))
    assert verdict.fault is None
    assert list(verdict.faults) == [1, 2, 3, 4, 5, 6]


async def test_one_that_is_taken_back_stops(process: GrammarProcess) -> None:
    heavy = Grammar("choice", text(words(1_000, 1_000)))
    task = asyncio.ensure_future(process.compile(heavy))
    forks = set(children(process))
    while not (forks := set(children(process)) - forks):
        await asyncio.sleep(0)
    task.cancel()
    while forks & set(children(process)):
        await asyncio.sleep(0)
    assert (await process.compile(Grammar("regex", "b"))).fault is None


async def test_a_process_that_is_killed_is_begun_again(process: GrammarProcess) -> None:
    assert (await process.compile(Grammar("regex", "a"))).fault is None
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGKILL)
    await process._process.wait()
    try:
        assert (await process.compile(Grammar("regex", "a"))).fault is None
    except Unavailable:  # it was told in the moment it ended
        assert (await process.compile(Grammar("regex", "a"))).fault is None


def children(process: GrammarProcess) -> list[int]:
    assert process._process is not None
    pid = process._process.pid
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


async def test_the_tokenizer_is_the_engines(config: Any, tokenizer: Any) -> None:
    info = xgr.TokenizerInfo.deserialize_json(setup_of(config, tokenizer)["tokenizer"])
    own = xgr.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer))
    assert (info.vocab_size, info.stop_token_ids) == (own.vocab_size, own.stop_token_ids)
    assert info.decoded_vocab == own.decoded_vocab


async def test_the_parsers_tag_for_tools_is_the_one_that_is_tried(tokenizer: Any) -> None:
    """Otherwise the engine would compile another grammar than the one that passed."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    from server.vllm.grammars.tools import _tag

    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    request = ChatCompletionRequest(
        messages=[{"role": "user", "content": "Hi"}],
        model="base",
        tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}],
    )
    parser = AttuneHermesToolParser(tokenizer)
    tag = parser.get_structural_tag(request, strict_level=parser.default_tool_strict_level)
    ours = xgr.StructuralTag.model_validate_json(_tag([("f", schema)]))
    assert tag.model_dump(exclude_unset=False) == ours.model_dump(exclude_unset=False)
