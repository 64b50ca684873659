"""What a terminal or a log is shown: letters of every language, and nothing it would obey."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.shown import shown

BIDI = {"BN", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("a\r\nb\tc\x08", "a\\r\\nb\\tc\\x08"),
        ("user\u202egro.knab", "user\\u202egro.knab"),
        ("sup\u200bport\ufeff", "sup\\u200bport\\ufeff"),
        ("sup\u200dport\u200c", "sup\\u200dport\\u200c"),
        ("half \ud83d", "half \\ud83d"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
    ],
)
def test_what_would_be_obeyed_or_is_invisible_is_spelt_out(text: str, seen: str) -> None:
    assert shown(text) == seen


@pytest.mark.parametrize(
    "text",
    ["münchen", "東京", "क्\u200dष", "می\u200cخواهم", "👩\u200d👩\u200d👧", "שלום", "naïve – “x”"],
)
def test_every_language_is_shown_as_it_is_written(text: str) -> None:
    assert shown(text) == text == shown(text, lines=True)


def test_lines_and_tabs_of_longer_text_stay_and_where_thai_may_break() -> None:
    assert shown("a\n\tb\r\x1b", lines=True) == "a\n\tb\\r\\x1b"
    assert shown("ภาษา\u200bไทย", lines=True) == "ภาษา\u200bไทย"
    assert shown("sup\u200bport", lines=True) == "sup\\u200bport"
    assert shown("ภาษา\u200bไทย") == "ภาษา\\u200bไทย"


@given(st.text(st.characters(categories=None)), st.booleans())
def test_nothing_shown_moves_turns_or_breaks(text: str, lines: bool) -> None:
    seen = shown(text, lines=lines)
    for character in seen.replace("\n", "").replace("\t", "") if lines else seen:
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in BIDI or character in "\u200b\u200c\u200d"
    seen.encode()


def test_no_control_or_direction_character_is_forgotten() -> None:
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or (
            unicodedata.bidirectional(character) in BIDI - {"BN"}
        ):
            assert shown(character).isascii(), hex(number)
            assert shown(character).isprintable(), hex(number)
