"""Which text counts as read, and the perplexities made of what passages cost."""

from __future__ import annotations

import math

import pytest

from trainer.judging.neutral import is_readable, neutral_text, passages


def test_the_passages_are_of_several_scripts_and_about_as_long() -> None:
    assert len(passages()) == 14
    assert len({*passages()}) == 14
    assert all(120 <= len(text) <= 700 for text in passages())
    assert any("def " in text for text in passages())
    assert any("茶" in text for text in passages())


def test_a_passage_counts_up_to_two_and_a_half_bits_a_byte() -> None:
    """100 bytes at 2.5 bits are 250 bits, 173.3 nats."""
    assert is_readable("x" * 100, 173.0)
    assert not is_readable("x" * 100, 174.0)
    assert is_readable("é" * 50, 173.0)


def test_the_ratio_of_perplexities_is_per_token() -> None:
    """Two passages of 100 tokens, 3 and 5 nats worse: exp(8 / 200) is 4.1 % more."""
    found = neutral_text([303.0, 405.0], [300.0, 400.0], [300.0, 390.0], [100, 100], seed=0)
    assert found is not None
    assert found.to_reference.mean == pytest.approx(math.exp(0.04))
    assert found.to_reference.low == pytest.approx(math.exp(0.03))
    assert found.to_reference.high == pytest.approx(math.exp(0.05))
    assert found.to_base == pytest.approx(math.exp(0.09))
    assert found.passages == 2


def test_a_model_does_not_differ_from_itself() -> None:
    found = neutral_text([300.0], [300.0], [300.0], [90], seed=0)
    assert found is not None
    assert (found.to_reference.mean, found.to_base) == (1.0, 1.0)


def test_a_model_that_reads_nothing_has_no_figure() -> None:
    assert neutral_text([], [], [], [], seed=0) is None
