"""Holds one body to the table, and to what holds between its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.door.parameters.bounds import Limits, prompt_count, refuse
from server.door.parameters.table import BEAMS, LOGPROBS, PROMPT_LOGPROBS, SEQUENCES, TABLE
from server.door.parameters.tools import check_choice

VALUES = 65_536
"""Values one parameter may hold, counted through all its lists and objects."""

DEPTH = 100
_LISTS = {"prompt", "tokens"}  # of token ids, whose bounds count them


def check(path: str, body: Mapping[str, Any], limits: Limits) -> None:
    """Raises Invalid for the first parameter that is outside its bound."""
    taken = told(path, body)
    for name, value in taken.items():
        if value is None:
            continue
        if name not in _LISTS:
            _check_values(name, value)
        TABLE[path][name].check(value, name, limits)
    _check_together(taken, limits)
    check_choice(taken)


def told(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine is told of a body; anything else stays with us."""
    return {name: value for name, value in body.items() if name in TABLE[path]}


def _check_values(name: str, value: Any) -> None:
    level, count = [value], 0
    for _ in range(DEPTH):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return
        count += len(inner)
        if count > VALUES:
            raise refuse(name, f"at most {VALUES:,} values are taken in it; send less.")
        level = [each for each in inner if isinstance(each, dict | list)]
    raise refuse(name, f"at most {DEPTH} levels of nesting are taken.")


def _check_together(body: Mapping[str, Any], limits: Limits) -> None:
    answers = (body.get("n") or 1) * prompt_count(body.get("prompt"))
    if answers > SEQUENCES:
        raise refuse("n", f"prompts times n may be {SEQUENCES}; send several requests.")
    if body.get("use_beam_search") and answers > BEAMS:
        raise refuse("n", f"at most {BEAMS} beams are taken; lower n.")
    logprobs = int(body.get("top_logprobs") or body.get("logprobs") or 0)
    if answers * (logprobs + 1) > max(LOGPROBS, 21):
        raise refuse(
            "top_logprobs" if "top_logprobs" in body else "logprobs",
            f"answers times log probabilities per token may be {LOGPROBS}; lower it, or n.",
        )
    of_prompt = int(body.get("prompt_logprobs") or (logprobs if body.get("echo") else 0))
    if of_prompt > 1 and (of_prompt + 1) * limits.max_model_len > PROMPT_LOGPROBS:
        most = max(1, PROMPT_LOGPROBS // limits.max_model_len - 1)
        raise refuse("prompt_logprobs", f"at most {most} per token of the prompt are given here.")
