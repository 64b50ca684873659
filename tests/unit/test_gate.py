"""The gate's conditions, one at a time, on a candidate that is sound otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainer.judging.bootstrap import mean_interval
from trainer.judging.gate import choose, judge
from trainer.types import (
    AnswerFaults,
    Compared,
    Evaluation,
    GateLimits,
    Interval,
    NeutralText,
    SuiteResult,
    Taste,
)

LIMITS = GateLimits()


def suite_of(items: int, lost: int, gained: int = 0, base_lost: int = 0) -> SuiteResult:
    """A suite of which the reference passes all but `gained`, and the candidate all but `lost`."""
    flips = [-1.0] * lost + [1.0] * gained + [0.0] * (items - lost - gained)
    reference = (items - gained) / items
    return SuiteResult(
        candidate=reference + (gained - lost) / items,
        reference=reference,
        difference=mean_interval(flips, seed=0),
        by_kind={},
        base=(items - base_lost) / items,
    )


SOUND = Evaluation(
    margin=Interval(2.0, 1.0, 3.0, 100),
    kl_to_base=1.7,
    length_ratio=1.0,
    suite=suite_of(150, lost=0),
    held_out_labels=100,
    held_out_pairs=0,
    seconds=3.0,
    answer_tokens=25.0,
    neutral=NeutralText(Interval(1.01, 1.0, 1.02, 14), 1.01, 14),
    taste=Taste(Interval(0.9, 0.8, 1.0, 80), Interval(0.4, 0.2, 0.6, 64)),
)


def failed(evaluation: Evaluation) -> list[str]:
    return [check.name for check in judge(evaluation, LIMITS).checks if not check.passed]


def test_a_sound_candidate_is_promoted_with_its_figures() -> None:
    verdict = judge(SOUND, LIMITS)
    assert verdict.promoted
    assert any("+2.00 nats (+1.00 to +3.00)" in reason for reason in verdict.reasons)
    assert any("KL 1.70" in reason for reason in verdict.reasons)


def test_with_many_items_the_lower_bound_must_be_over_zero() -> None:
    assert failed(replace(SOUND, margin=Interval(0.4, -0.01, 0.8, 67))) == ["preference margin"]
    assert failed(replace(SOUND, margin=Interval(0.4, 0.01, 0.8, 67))) == []


def test_with_few_items_the_direction_decides() -> None:
    assert failed(replace(SOUND, margin=Interval(0.4, -0.5, 1.3, 66))) == []
    assert failed(replace(SOUND, margin=Interval(0.0, -0.5, 0.5, 66))) == ["preference margin"]


def test_without_held_out_feedback_nothing_is_promoted() -> None:
    verdict = judge(replace(SOUND, margin=Interval(0.0, 0.0, 0.0, 0)), LIMITS)
    assert not verdict.promoted
    assert verdict.reasons == (
        "preference margin: no feedback was held out to judge it by; collect more",
    )


def test_a_candidate_far_from_the_base_is_rejected() -> None:
    assert failed(replace(SOUND, kl_to_base=3.26)) == ["distance from the base"]


@pytest.mark.parametrize(
    ("tokens", "kl", "passes"),
    [(10, 2.4, True), (10, 2.6, False), (500, 26.0, True), (500, 28.0, False)],
)
def test_longer_answers_may_differ_more_from_the_base(
    tokens: float, kl: float, passes: bool
) -> None:
    """2 nats an answer and 0.05 a token: 2.5 for ten tokens, 27 for five hundred."""
    one = replace(SOUND, kl_to_base=kl, answer_tokens=tokens)
    assert (failed(one) == []) is passes


def test_answers_that_became_short_have_the_budget_of_those_they_would_have_been() -> None:
    """Of 100 tokens 20 are left: 2 + 0.05 · 100 = 7 nats, as before they were."""
    short = replace(SOUND, kl_to_base=6.9, answer_tokens=20.0, length_ratio=0.2, length_wanted=0.2)
    assert failed(short) == []
    assert failed(replace(short, kl_to_base=7.1)) == ["distance from the base"]


def test_text_nobody_asked_for_may_be_read_three_per_cent_worse() -> None:
    worse = NeutralText(Interval(1.04, 1.03, 1.05, 14), 1.04, 14)
    assert failed(replace(SOUND, neutral=worse)) == ["neutral text"]


def test_perplexity_does_not_add_up_over_rounds() -> None:
    little_by_little = NeutralText(Interval(1.02, 1.01, 1.03, 14), 1.07, 14)
    assert failed(replace(SOUND, neutral=little_by_little)) == ["neutral text"]


def test_samples_that_moved_away_from_what_was_liked_are_rejected() -> None:
    away = Taste(Interval(0.9, 0.8, 1.0, 80), Interval(-0.3, -0.5, -0.1, 64))
    assert failed(replace(SOUND, taste=away)) == ["sampled answers"]


@pytest.mark.parametrize(("mean", "passes"), [(0.05, True), (-0.01, False), (0.0, False)])
def test_likelihood_that_moved_without_samples_is_said(mean: float, passes: bool) -> None:
    still = Taste(Interval(0.9, 0.8, 1.0, 80), Interval(mean, mean - 0.2, mean + 0.2, 64))
    verdict = judge(replace(SOUND, taste=still), LIMITS)
    assert verdict.promoted is passes
    (told,) = [check.detail for check in verdict.checks if check.name == "sampled answers"]
    assert told.startswith("likelihood moved +2.00 nats, samples not provably: ")


@pytest.mark.parametrize("area", [Interval(0.65, 0.55, 0.75, 80), Interval(0.8, 0.45, 1.0, 9)])
def test_samples_decide_only_where_likes_are_known_from_dislikes(area: Interval) -> None:
    away = Interval(-0.3, -0.5, -0.1, 64)
    assert failed(replace(SOUND, taste=Taste(area, away))) == []
    assert failed(replace(SOUND, taste=replace(SOUND.taste, shift=away))) == ["sampled answers"]


def test_every_check_of_a_sound_candidate_fits_a_line() -> None:
    share = Compared(0.125, 0.102, Interval(0.023, -0.031, 0.072, 200))
    found = replace(SOUND, faults=AnswerFaults(share, share, share))
    told = [f"  ✓ {check.name}: {check.detail}" for check in judge(found, LIMITS).checks]
    assert len(told) == 10
    assert [line for line in told if len(line) > 80] == []


@pytest.mark.parametrize(("ratio", "passes"), [(0.79, False), (0.8, True), (1.26, False)])
def test_the_length_stays_in_its_band(ratio: float, passes: bool) -> None:
    assert judge(replace(SOUND, length_ratio=ratio), LIMITS).promoted is passes


def test_the_length_may_follow_what_people_liked() -> None:
    """Liked answers are half as long: 0.8 · 0.5 = 0.4 is allowed, 1.25 stays the upper end."""
    shorter = replace(SOUND, length_wanted=0.5)
    assert failed(replace(shorter, length_ratio=0.45)) == []
    assert failed(replace(shorter, length_ratio=0.35)) == ["answer length"]
    assert failed(replace(shorter, length_ratio=1.3)) == ["answer length"]


@pytest.mark.parametrize(
    ("items", "lost", "passes"), [(150, 1, True), (150, 3, True), (300, 8, False), (150, 5, False)]
)
def test_a_suite_may_lose_what_chance_can_lose(items: int, lost: int, passes: bool) -> None:
    """3 of 150: a resample draws none of them with (147/150)^150 = 4.8 %, more than the 2.5 %
    tail, so the interval reaches no change. 8 of 300: 0.03 %, so those 2.7 points are real."""
    assert judge(replace(SOUND, suite=suite_of(items, lost)), LIMITS).promoted is passes


def test_a_proven_drop_within_one_point_is_tolerated() -> None:
    """8 of 1,000 lost: 0.8 points, surely real, and small enough."""
    assert failed(replace(SOUND, suite=suite_of(1_000, lost=8))) == []
    assert "regression suite" in failed(replace(SOUND, suite=suite_of(1_000, lost=12)))


def test_an_unproven_drop_over_three_points_is_not_tolerated() -> None:
    """3 of 40 lost is 7.5 points, whatever the interval says."""
    assert "regression suite" in failed(replace(SOUND, suite=suite_of(40, lost=3)))


def test_small_drops_do_not_add_up_over_rounds() -> None:
    """No change against the live version, but that is 5 of 150 (3.3 points) below the base."""
    live_has_lost = replace(suite_of(150, lost=0), candidate=145 / 150, reference=145 / 150)
    assert failed(replace(SOUND, suite=live_has_lost)) == ["regression suite against the base"]


def test_without_a_suite_the_other_conditions_decide() -> None:
    assert failed(replace(SOUND, suite=None)) == []


def test_the_larger_margin_is_chosen_among_the_promoted() -> None:
    better = replace(SOUND, margin=Interval(9.0, 8.0, 10.0, 100), kl_to_base=9.0)
    candidates = [SOUND, better]
    judged = [(found, judge(found, LIMITS)) for found in candidates]
    assert choose(judged) == 0  # the better one is too far from the base
    assert choose([judged[1]]) is None


def test_equal_margins_are_decided_by_the_smaller_drift() -> None:
    near = replace(SOUND, kl_to_base=1.0)
    judged = [(found, judge(found, LIMITS)) for found in (SOUND, near)]
    assert choose(judged) == 1
