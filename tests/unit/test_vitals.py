"""What rows of workers mean to whoever asks how the trainer is."""

from __future__ import annotations

import pytest

from core.work.workers import FRESH_S, Worker
from server.sync.vitals import judged

NOW = 1_000_000.0


def worker(looked_s_ago: float | None, trouble: str | None = None, name: str = "a") -> Worker:
    looked = None if looked_s_ago is None else NOW - looked_s_ago
    return Worker(name, looked, trouble, told_at_s=NOW)


@pytest.mark.parametrize(
    ("workers", "up_s", "status", "seen_s_ago"),
    [
        ([], 10, "starting", None),
        ([], 300, "not seen", None),
        ([worker(3)], 300, "ok", 3),
        ([worker(FRESH_S + 150)], 10, "starting", FRESH_S + 150),
        ([worker(FRESH_S + 150)], 300, "not seen", FRESH_S + 150),
        ([worker(3, "broken")], 10, "in trouble", 3),
        ([worker(None, "broken")], 300, "in trouble", None),
        ([worker(90_000, "broken")], 300, "in trouble", 90_000),
        ([worker(3, "broken"), worker(5, name="b")], 300, "ok", 3),  # one that works is enough
        ([worker(3, "broken"), worker(500, name="b")], 300, "in trouble", 3),
        ([worker(-2)], 300, "ok", 0),  # its clock is ahead of ours
    ],
)
def test_a_trainer_is_judged_by_its_last_good_look(
    workers: list[Worker], up_s: float, status: str, seen_s_ago: float | None
) -> None:
    seen = judged(workers, NOW, began_s=NOW - up_s)
    assert (seen.status, seen.seen_s_ago) == (status, seen_s_ago)
    assert (seen.message is None) == (status in ("ok", "starting"))


def test_a_trainer_that_is_not_seen_is_told_with_what_to_do() -> None:
    (never, minutes) = (judged(w, NOW, began_s=NOW - 300) for w in ([], [worker(180)]))
    assert "No trainer has been seen yet" in str(never.message)
    assert "No trainer has been seen for 3 min" in str(minutes.message)
    assert "`attune trainer`" in str(minutes.message)


def test_a_trouble_is_told_in_its_own_words() -> None:
    assert judged([worker(3, "Move it.")], NOW, began_s=0).message == "Move it."
