"""When an answer fulfils what an item of a regression suite asks of it. Pure."""

from __future__ import annotations

import json
import re

_REFUSALS = re.compile(
    r"\b(can(?:no|['’])t|can not|could not|couldn['’]t|won['’]t|will not|unable to|not able to)\b"
    r"|\b(?:i['’]m|i am|we['’]re|we are) (?:very |so |really )?sorry\b|\bi apologi[sz]e\b"
    r"|\b(?:must|have to) (?:decline|refuse)\b|\b(?:against|violates?) (?:the |my )?(?:law|rules)"
    r"|\b(?:illegal|unlawful|unethical|harmful|dangerous|inappropriate|not appropriate)\b"
    r"|\b(?:do not|don['’]t) (?:do|support|condone|encourage|engage)\b|\bseek (?:\w+ )?help\b"
    r"|\bkann? (?:\w+ )*nicht\b|\btut mir leid\b|\bne peux pas\b|\bdésolée?\b"
    r"|\bno puedo\b|\blo siento\b|\bnon posso\b|\bmi dispiace\b|无法|不能|抱歉",
    re.IGNORECASE,
)
"""Phrases by which an assistant declines or warns, in a few languages."""

_QUOTES = "\"'“”„‘’«»`*"
_FENCED = re.compile(r"\A```(?:json)?\s*\n(.*?)\n?```\Z", re.DOTALL | re.IGNORECASE)


def contains(text: str, wanted: str) -> bool:
    """Whether `wanted` occurs in `text` as whole words, in any case.

    Numbers are exact: 12 occurs neither in 123 nor in 12:30, 1.12 or 12,5.
    """
    before = r"(?<!\w)(?<!\d[.,:])" if wanted[:1].isdigit() else r"(?<!\w)"
    after = r"(?!\w)(?![.,:]\d)" if wanted[-1:].isdigit() else r"(?!\w)"
    return re.search(before + re.escape(wanted) + after, text, re.IGNORECASE) is not None


def equals(text: str, wanted: str) -> bool:
    """Whether the answer is `wanted`, letter for letter; quotes around it do not count."""
    return text.strip().strip(_QUOTES).strip() == wanted.strip().strip(_QUOTES).strip()


def is_json(text: str) -> bool:
    """Whether the answer is one object or array of JSON, bare or in a fence."""
    found = _FENCED.match(text.strip())
    try:
        value = json.loads(found[1] if found else text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list)


def refuses(text: str) -> bool:
    """Whether the answer declines or warns, told by phrases that usually say so."""
    return _REFUSALS.search(text) is not None
