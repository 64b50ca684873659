"""The gate: whether a measured candidate may replace what is live.

Owns the conditions and the words of the verdict, as pure functions. Must not know: models,
stores, how anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.judging.thresholds import at_most, fault_checks, small_or_unproven
from trainer.types import (
    Check,
    Evaluation,
    GateLimits,
    Interval,
    NeutralText,
    SuiteResult,
    Taste,
    Verdict,
)


def judge(evaluation: Evaluation, limits: GateLimits) -> Verdict:
    """Hold a candidate against every condition; it is promoted only if all of them hold."""
    checks = [_margin(evaluation, limits), _drift(evaluation, limits), _length(evaluation, limits)]
    if evaluation.taste is not None:
        checks.append(_taste(evaluation.taste, evaluation.margin, limits))
    if evaluation.faults is not None:
        checks += fault_checks(evaluation.faults, limits)
    if evaluation.neutral is not None:
        checks.append(_neutral(evaluation.neutral, limits))
    if evaluation.suite is not None:
        checks.append(_suite(evaluation.suite, limits))
        checks.append(_suite_against_base(evaluation.suite, limits))
    return Verdict(all(check.passed for check in checks), tuple(checks), evaluation.margin)


def choose(candidates: Sequence[tuple[Evaluation, Verdict]]) -> int | None:
    """The index of the promoted candidate with the largest margin, None if none was promoted.

    Margins that are equal to a hundredth of a nat are decided by the smaller KL.
    """
    promoted = [
        (-round(evaluation.margin.mean, 2), evaluation.kl_to_base, index)
        for index, (evaluation, verdict) in enumerate(candidates)
        if verdict.promoted
    ]
    return min(promoted)[2] if promoted else None


def _margin(evaluation: Evaluation, limits: GateLimits) -> Check:
    margin = evaluation.margin
    figures = (
        f"{margin.mean:+.2f} nats ({margin.low:+.2f} to {margin.high:+.2f}) on {margin.n} "
        "effective items"
    )
    if margin.n == 0:
        return Check(
            "preference margin", False, "no feedback was held out to judge it by; collect more"
        )
    if margin.n < limits.few_held_out:
        # Too few to prove anything, so only the direction counts.
        return Check("preference margin", margin.mean > 0, f"{figures}; too few for proof")
    if margin.low <= 0:
        return Check("preference margin", False, f"{figures}; the interval must be over 0")
    return Check("preference margin", True, figures)


def _drift(evaluation: Evaluation, limits: GateLimits) -> Check:
    """What an answer may differ by grows with its length, from a sum that any answer may.

    To give, always, the kind of answer that a model gives with probability p costs log(1/p) nats
    however long it is: 2 nats are one in seven. What is worded differently throughout differs
    at every token. What makes an answer shorter is spread over the one that it would have been,
    so that the longer of both counts.
    """
    own, ratio = evaluation.answer_tokens, evaluation.length_ratio
    tokens = max(own, own / ratio if ratio else own)
    allowed = limits.kl_allowed(tokens)
    return Check(
        "distance from the base",
        evaluation.kl_to_base <= allowed,
        f"KL {evaluation.kl_to_base:.2f} nats in {tokens:.0f} tokens an answer, allowed "
        f"{allowed:.2f}",
    )


def _length(evaluation: Evaluation, limits: GateLimits) -> Check:
    # People may ask for shorter or longer answers by what they like: the band reaches there.
    wanted = evaluation.length_wanted if evaluation.length_wanted is not None else 1.0
    low = limits.length_low * min(1.0, wanted)
    high = limits.length_high * max(1.0, wanted)
    return Check(
        "answer length",
        low <= evaluation.length_ratio <= high,
        f"{evaluation.length_ratio:.2f} times the reference, allowed {low:.2f} to {high:.2f}",
    )


def _taste(taste: Taste, margin: Interval, limits: GateLimits) -> Check:
    """Likelihoods may move where nothing is drawn: what is sampled must move too, if one can tell.

    The direction decides, as with few held-out items: the answers are fewer than the judgements.
    """
    name, shift, told_apart = "sampled answers", taste.shift, taste.told_apart
    if told_apart.mean < limits.told_apart or told_apart.low <= 0.5 or shift.n == 0:
        why = f"cannot be judged by wording (ROC area {told_apart.mean:.2f} of likes over dislikes)"
        return Check(name, True, why)
    figures = f"{shift.mean:+.2f} ({shift.low:+.2f} to {shift.high:+.2f})"
    if shift.low > 0:
        return Check(name, True, f"moved {figures} of the way to liked ones")
    if shift.high < 0:
        return Check(name, False, f"moved {figures}, away from liked ones")
    moved = f"likelihood moved {margin.mean:+.2f} nats, " if margin.mean > 0 else ""
    return Check(name, shift.mean > 0, f"{moved}samples not provably: {figures}; must be over 0")


def _neutral(neutral: NeutralText, limits: GateLimits) -> Check:
    ratio, allowed = neutral.to_reference, limits.perplexity_rise
    return Check(
        "neutral text",
        ratio.mean <= 1 + allowed and neutral.to_base <= 1 + 2 * allowed,
        f"perplexity {ratio.mean - 1:+.1%} ({ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}), "
        f"base {neutral.to_base - 1:+.1%}, allowed {allowed:+.1%}",
    )


def _suite(suite: SuiteResult, limits: GateLimits) -> Check:
    """A small drop passes; a larger one only while it may still be chance.

    With 150 items a drop of one is 0.7 points. Up to `suite_drop_unproven` passes as long as
    the paired interval includes no change, because so few flips happen between equal models.
    """
    return Check(
        "regression suite",
        small_or_unproven(
            suite.reference - suite.candidate,
            suite.difference.high >= 0,
            limits.suite_drop,
            limits.suite_drop_unproven,
        ),
        f"{suite.candidate:.1%} passed, reference {suite.reference:.1%} "
        f"({100 * suite.difference.low:+.1f} to {100 * suite.difference.high:+.1f} points)",
    )


def _suite_against_base(suite: SuiteResult, limits: GateLimits) -> Check:
    """Drops that passed one by one must not add up over many rounds."""
    return Check(
        "regression suite against the base",
        at_most(suite.base - suite.candidate, limits.suite_drop_total),
        f"{suite.candidate:.1%}, base {suite.base:.1%}, allowed "
        f"-{100 * limits.suite_drop_total:g} points",
    )
