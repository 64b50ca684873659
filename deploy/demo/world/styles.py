"""Owns the five styles an answer can wear, and how to tell which one a text wears.

A style is an opening and a closing of its own around the same sentence of facts, so that
preferring one says nothing about the facts. No two styles share one. Must not know: intents, torch.
"""

import random

from deploy.demo.world.town import read_data

_STYLES: dict[str, dict[str, list[str]]] = read_data("styles")

STYLES: tuple[str, ...] = tuple(_STYLES)


def dress(sentence: str, style: str, rng: random.Random) -> str:
    """`sentence` in `style`: an opening and a closing of that style around it."""
    chosen = _STYLES[style]
    return f"{rng.choice(chosen['openings'])} {sentence} {rng.choice(chosen['closings'])}"


def style_of(text: str) -> str | None:
    """The one style whose openings or closings occur in `text`; None for none or several."""
    found = [
        name
        for name, style in _STYLES.items()
        if any(mark in text for mark in style["openings"] + style["closings"])
    ]
    return found[0] if len(found) == 1 else None
