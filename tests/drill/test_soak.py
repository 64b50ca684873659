"""Two minutes of everything at once: every error is one that was asked for, and much is done."""

from __future__ import annotations

import pytest

from deploy.bench.soak import measure

pytestmark = pytest.mark.drill

MINUTES = 2.0


def test_everything_at_once_goes_right() -> None:
    """Memory is not judged: in so short a time the trainer's first run counts as growth."""
    found = measure(minutes=MINUTES)
    assert found["unexplained"] == {}
    assert found["tracebacks_in_the_log"] == 0
    assert "failed" not in found["runs"]
    kinds = {"streamed", "answered in one piece", "asked to rate", "rated", "swapped"}
    assert kinds <= found["done"].keys()
    assert "cancelled by the client" in found["expected_errors"]
    assert len(found["expected_errors"]) == 6  # and each of the five mistakes, as expected
    assert found["evictions"] > 0
