"""How many more judgements would prove an effect, derived by hand."""

from __future__ import annotations

import pytest

from trainer.judging.proof import more_judgements
from trainer.types import Interval


def test_the_interval_narrows_with_the_root_of_the_items() -> None:
    """Mean 1, low -1: the half-width of 2 must halve, which takes four times the 100 items. The
    100 came of 500 judgements, so 1,500 more are wanted."""
    assert more_judgements(Interval(1.0, -1.0, 3.0, 100), 500, few_held_out=67) == 1_500


def test_a_clear_effect_on_few_items_waits_for_what_the_gate_calls_proof() -> None:
    """Low is over 0 already on 10 items of 50 judgements; 67 items take 335 judgements."""
    assert more_judgements(Interval(2.0, 1.0, 3.0, 10), 50, few_held_out=67) == 285


def test_a_proven_effect_wants_none() -> None:
    assert more_judgements(Interval(2.0, 1.0, 3.0, 80), 400, few_held_out=67) == 0


@pytest.mark.parametrize(
    "margin",
    [
        Interval(0.0, 0.0, 0.0, 0),  # nothing was held out
        Interval(-0.5, -1.0, 0.1, 100),  # the other way
        Interval(0.0, -1.0, 1.0, 100),  # no effect
        Interval(0.001, -1.0, 1.0, 100),  # a hundred million judgements
    ],
)
def test_what_no_number_would_prove_is_none(margin: Interval) -> None:
    assert more_judgements(margin, 500, few_held_out=67) is None
