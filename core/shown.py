"""Text from anybody as a terminal or a log may hold it. Pure; devices use it too."""

from __future__ import annotations

import re

BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""What turns the direction of text, for a regular expression's brackets."""

_UNSEEN = re.compile(
    f"[\\x00-\\x1f\\x7f-\\x9f\ud800-\udfff{BIDI}"
    # Invisible, or a line break to some: soft hyphen, zero width, separators, fillers, tags.
    "\u00ad\u115f\u1160\u180e\u200b\u2028\u2029\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
    # Joiners have a meaning between letters that join, and between emoji, not beside Latin ones.
    "|(?<=[\\x00-\u024f])[\u200c\u200d]|[\u200c\u200d](?=[\\x00-\u024f])"
)
_LATIN = re.compile("[\\x00-\u024f]")


def shown(text: str, *, lines: bool = False) -> str:
    """`text` for a terminal or a log: what it would obey, or nobody could see, is spelt out.

    An escape sequence reads `\\x1b[31m`, a line break `\\n`; with `lines` breaks and tabs stay.
    Nothing is left that moves the cursor, colours, links, turns the direction or forges a line.
    """
    return _UNSEEN.sub(_spelt_in_lines if lines else _spelt, text)


def _spelt(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def _spelt_in_lines(match: re.Match[str]) -> str:
    beside = match.string[max(0, match.start() - 1) : match.end() + 1]
    # Khmer and Thai mark where a line may end by a space of no width.
    marks_a_line_end = match.group() == "\u200b" and not _LATIN.search(beside)
    return match.group() if match.group() in "\n\t" or marks_a_line_end else _spelt(match)
