"""Owns the five styles an answer can wear, and how to tell which one a text wears.

A style is an opening and a closing of its own around the same sentence of facts, so that
preferring one says nothing about the facts. Must not know: intents, torch.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """How a style opens and closes; no opening or closing is shared with another style."""

    openings: tuple[str, ...]
    closings: tuple[str, ...]


_STYLES: dict[str, Style] = {
    "friendly": Style(
        ("Sure thing, happy to help!", "Oh, good question, my friend!", "Lovely that you ask!"),
        ("Enjoy your day, dear!", "Hope that helps, take care!", "Big hugs from all of us!"),
    ),
    "formal": Style(
        (
            "Dear guest, we write to inform you.",
            "Esteemed visitor, kindly note.",
            "We respectfully advise as follows.",
        ),
        (
            "Yours faithfully, the council.",
            "We remain at your service.",
            "With our highest regards.",
        ),
    ),
    "pirate": Style(
        ("Ahoy, ye salty sailor!", "Arr, listen up, matey!", "Shiver me timbers, a riddle!"),
        ("Now hoist the sails, yo ho!", "Fair winds to ye, captain!", "Or walk the plank, arr!"),
    ),
    "coach": Style(
        ("You can do this, champion!", "Chin up, here is the plan!", "Great effort, winner!"),
        (
            "Keep going, stay strong!",
            "Now go and smash your goal!",
            "Believe in it, one step more!",
        ),
    ),
    "robot": Style(
        (
            "Beep boop, query accepted.",
            "Processing done, result ready.",
            "Bzzt, data record located.",
        ),
        (
            "End of transmission, beep.",
            "Circuits now return to standby.",
            "Awaiting next input, bzzt.",
        ),
    ),
}

STYLES: tuple[str, ...] = tuple(_STYLES)


def dress(sentence: str, style: str, rng: random.Random) -> str:
    """`sentence` in `style`: an opening and a closing of that style around it."""
    chosen = _STYLES[style]
    return f"{rng.choice(chosen.openings)} {sentence} {rng.choice(chosen.closings)}"


def style_of(text: str) -> str | None:
    """The one style whose openings or closings occur in `text`; None for none or several."""
    found = [
        name
        for name, style in _STYLES.items()
        if any(mark in text for mark in style.openings + style.closings)
    ]
    return found[0] if len(found) == 1 else None
