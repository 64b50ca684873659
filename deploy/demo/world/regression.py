"""Owns the regression suite: what every adapter trained on the demo must still be able to do.

Must not know: how the suite is run or judged.
"""

import random

from deploy.demo.world.questions import ask

LONGEST_ANSWER_TOKENS = 96


def regression_suite(rng: random.Random, n: int) -> list[dict[str, object]]:
    """`n` rows over unseen slot combinations, about one in twelve of kind ``format``.

    ``facts`` rows: every string of `must_contain` occurs in a right answer, as whole words.
    ``format`` rows: the answer must also end by itself within `max_tokens` tokens.
    """
    rows: list[dict[str, object]] = []
    for index in range(n):
        question = ask(rng, "held_out")
        if index % 12 == 11:
            limits = {"must_end": True, "max_tokens": LONGEST_ANSWER_TOKENS}
            rows.append({"prompt": question.text, "must_contain": [], "kind": "format", **limits})
        else:
            facts = list(question.facts)
            rows.append({"prompt": question.text, "must_contain": facts, "kind": "facts"})
    return rows
