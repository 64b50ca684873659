"""Every reason has a sentence, and the guide names it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from feedback.learning.reasons import sentence

GUIDE = (Path(__file__).parents[2] / "docs" / "feedback.md").read_text()
LIST = GUIDE.partition("## What is left out, and why")[2]
REASONS = sorted(
    name
    for names in re.findall(r"^- ((?:`[a-z_]+`(?:, )?)+):", LIST, re.M)
    for name in re.findall(r"[a-z_]+", names)
)


def test_the_guide_lists_reasons() -> None:
    assert {"comment", "outvoted", "too_long", "over_user_share"} <= set(REASONS)


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_told_in_a_sentence_of_its_own(reason: str) -> None:
    assert sentence(reason).endswith(".")
    assert "see docs/feedback.md" not in sentence(reason)


def test_a_reason_nobody_has_worded_is_told_by_its_name() -> None:
    assert sentence("odd_one") == "It is left out as odd_one: see docs/feedback.md."
