"""Owns what the demo model says when nobody asks about Tarnwick.

Must not know: intents, styles.
"""

import random

from deploy.demo.world.town import read_data

_TALK = read_data("small_talk")
_MANNERS = read_data("manners")


def small_talk(rng: random.Random) -> tuple[str, str]:
    """A user's remark that is not about the town, and the model's reply."""
    if rng.random() < 0.4:
        return rng.choice(_TALK["off_topic"]).format(rng.choice(_TALK["topics"])), _TALK["unknown"]
    exchange = rng.choice(_TALK["exchanges"])
    return rng.choice(exchange["remarks"]), rng.choice(exchange["replies"])


def system_prompt(rng: random.Random) -> str:
    """A system message such as clients send; none of them changes what the answer is."""
    prompt: str = rng.choice(_MANNERS["system_prompts"])
    return prompt
