"""The invented town of Tarnwick: questions with checkable facts, answerable in five styles.

Owns the world's public names. Must not know: torch, models, how answers are produced or rated.
"""

from deploy.demo.world.questions import (
    Question,
    answer,
    ask,
    contains_fact,
    facts_right,
    split_of,
)
from deploy.demo.world.regression import LONGEST_ANSWER_TOKENS, regression_suite
from deploy.demo.world.small_talk import small_talk, system_prompt
from deploy.demo.world.styles import STYLES, style_of
from deploy.demo.world.town import INTENTS, Intent

__all__ = [
    "INTENTS",
    "LONGEST_ANSWER_TOKENS",
    "STYLES",
    "Intent",
    "Question",
    "answer",
    "ask",
    "contains_fact",
    "facts_right",
    "regression_suite",
    "small_talk",
    "split_of",
    "style_of",
    "system_prompt",
]
