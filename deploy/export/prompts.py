"""The prompts an export is verified with when a tenant has too few of its own.

Half are questions about the demo's invented town, which the shipped model was made for, half
everyday requests, which other chat models answer. Must not know models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from deploy.demo.world import ask
from feedback.types import Message

ENOUGH: Final = 50
"""Prompts a verification wants; with fewer of their own, tenants' are joined by shipped ones."""

Conversation = tuple[Message, ...]

_EVERYDAY: Final = (
    "Explain in two sentences how a bicycle stays upright.",
    "Write a short thank-you note to a neighbour who watered the plants.",
    "What is the difference between weather and climate?",
    "Give me three ideas for a quick vegetarian dinner.",
    "Translate 'Where is the station?' into French.",
    "How do I remove a coffee stain from a shirt?",
    "Summarize the story of Cinderella in one paragraph.",
    "Which is larger, 3/4 or 5/8? Show why.",
    "Write a Python function that reverses a string.",
    "List the planets of the solar system from the sun outwards.",
    "My printer shows an error. What should I check first?",
    "Draft an e-mail that moves a meeting from Tuesday to Thursday.",
    "What does a compass needle point to, and why?",
    "Name four capitals in South America.",
    "Turn this into a question: You finished the report.",
    "How long should I boil an egg for a soft yolk?",
    "Give a synonym for each: quick, calm, bright.",
    "What happens to water when it freezes?",
    "Write a haiku about the first snow.",
    "Convert 72 degrees Fahrenheit to Celsius.",
    "Who are you, and what can you help me with?",
    "What should I pack for a weekend in the mountains?",
    "Explain recursion to a ten-year-old.",
    "Correct the grammar: He don't know where is it.",
    "Give one argument for and one against working from home.",
)


def shipped_prompts(count: int = ENOUGH) -> tuple[Conversation, ...]:
    """`count` conversations of one user message, the same every time; at least 1."""
    rng = random.Random(0)
    texts = []
    for number in range(count):
        everyday = number % 2 and number // 2 < len(_EVERYDAY)
        texts.append(_EVERYDAY[number // 2] if everyday else ask(rng, "held_out").text)
    return tuple(({"role": "user", "content": text},) for text in texts)


def enough_prompts(
    own: Sequence[Conversation], source: str
) -> tuple[tuple[Conversation, ...], str]:
    """The prompts to verify with and what to call their source: a tenant's own if there are
    enough, else these filled up with shipped ones."""
    if len(own) >= ENOUGH:
        return tuple(own), source
    if not own:
        return shipped_prompts(), "shipped"
    return (*own, *shipped_prompts(ENOUGH - len(own))), f"{source}+shipped"
