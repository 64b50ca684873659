"""What `attune adapters show` prints of what an adapter knows."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.learning_shown import print_learning

CHECK = {"name": "preference margin", "passed": False, "detail": "+0.10 nats"}
LEARNING: dict[str, Any] = {
    "message": "Missing for a run: 8 more new items.",
    "as_of": "2026-11-30T09:12:44.018+00:00",
    "known": {"labels_up": 2, "labels_down": 4, "pairs": 1, "new_items": 5},
    "said_since": 3,
    "left_out": [{"reason": "comment", "count": 2, "note": "Nothing in it."}],
    "last_run": {"id": "run_1", "verdict": {"promoted": False, "checks": [CHECK]}},
    "effect": {"mean": 1.1, "low": -0.2, "high": 2.5, "n": 10, "more_judgements": 1310},
}


def printed(capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    print_learning({**LEARNING, **changes})
    return " ".join(capsys.readouterr().out.split())


def test_every_fact_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    told = printed(capsys)
    for fact in (
        "Missing for a run: 8 more new items.",
        "Known: 2 up, 4 down, 1 pairs; new since the last run: 5.",
        "Not counted yet: 3 items that came since.",
        "2 comment: Nothing in it.",
        "Last judged: run_1",
        "preference margin: +0.10 nats",
        "+1.10 nats (-0.20 to +2.50): about 1,310 more judgements would prove",
    ):
        assert fact in told


@pytest.mark.parametrize(("more", "words"), [(None, "would prove nothing"), (0, "as many")])
def test_an_effect_that_wants_no_more_is_told_so(
    capsys: pytest.CaptureFixture[str], more: int | None, words: str
) -> None:
    assert words in printed(capsys, effect={**LEARNING["effect"], "more_judgements": more})


def test_what_is_not_known_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"known": None, "said_since": 0, "left_out": [], "last_run": None, "effect": None}
    assert printed(capsys, **nothing) == "Missing for a run: 8 more new items."
