"""The invented town of Tarnwick: questions with checkable facts, answerable in five styles.

Owns the world's public names. Must not know: torch, models, how answers are produced or rated.
"""

from deploy.demo.world.questions import (
    LONGEST_ANSWER_TOKENS,
    STYLES,
    Question,
    answer,
    ask,
    facts_right,
    held_out_questions,
    regression_suite,
    small_talk,
    style_of,
    system_prompt,
)
from deploy.demo.world.town import INTENTS

__all__ = [
    "INTENTS",
    "LONGEST_ANSWER_TOKENS",
    "STYLES",
    "Question",
    "answer",
    "ask",
    "facts_right",
    "held_out_questions",
    "regression_suite",
    "small_talk",
    "style_of",
    "system_prompt",
]
