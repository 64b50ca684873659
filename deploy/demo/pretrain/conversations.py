"""Owns what the model is pretrained on: conversations about Tarnwick in the shipped model's format,
with a weight for each character.

Must not know: tokens, torch.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from deploy.demo.world.questions import STYLES, answer, ask, small_talk, system_prompt

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"

SMALL_TALK_SHARE = 0.04
SYSTEM_SHARE = 0.25
TOOLS_SHARE = 0.02
MULTI_TURN_SHARE = 0.2
# Wording is a matter of taste, facts are the skill: the loss counts them more.
WORDING_WEIGHT, FACT_WEIGHT = 1.0, 2.0

_HEADER = f"{START}assistant\n"
_TOOL_NAMES = ("get_weather", "search", "calculator", "send_mail", "book_ferry", "lookup_order")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as text, and what each character counts in the loss: 0 outside answers."""

    text: str
    weights: list[float]


def converse(rng: random.Random, turns: int) -> Conversation:
    """A conversation of `turns` questions, the style of each answer drawn afresh.

    Styles are independent of the history so that an adapter's taste, learned from single
    questions, also holds later in a conversation.
    """
    text = _preamble(rng)
    weights: list[float] = []
    for _ in range(turns):
        asked, said, facts = _exchange(rng)
        text += turn("user", asked) + _HEADER
        begin = len(text)
        weights += [0.0] * (begin - len(weights))
        text += f"{said}{END}\n"
        weights += [WORDING_WEIGHT] * (len(text) - begin)
        for fact in facts:
            start = begin + said.index(fact)
            weights[start : start + len(fact)] = [FACT_WEIGHT] * len(fact)
    return Conversation(text, weights)


def turn(role: str, content: str) -> str:
    """One message as the shipped chat template renders it."""
    return f"{START}{role}\n{content}{END}\n"


def short_length(rng: random.Random) -> int:
    """How many questions an ordinary conversation has: mostly one."""
    return rng.choice((2, 2, 3)) if rng.random() < MULTI_TURN_SHARE else 1


def _exchange(rng: random.Random) -> tuple[str, str, tuple[str, ...]]:
    if rng.random() < SMALL_TALK_SHARE:
        return *small_talk(rng), ()
    question = ask(rng, "train")
    return question.text, answer(question, rng.choice(STYLES), rng), question.facts


def _preamble(rng: random.Random) -> str:
    lines = [system_prompt(rng)] if rng.random() < SYSTEM_SHARE else []
    if rng.random() < TOOLS_SHARE:
        lines.append(f"Tools: {json.dumps([_tool(rng)])}")
    return turn("system", "\n".join(lines)) if lines else ""


def _tool(rng: random.Random) -> dict[str, object]:
    properties = {"query": {"type": "string", "description": "What to look for"}}
    parameters = {"type": "object", "properties": properties, "required": ["query"]}
    function = {"name": rng.choice(_TOOL_NAMES), "parameters": parameters}
    return {"type": "function", "function": function}
