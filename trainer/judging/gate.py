"""The gate: whether a measured candidate may replace what is live.

Owns the conditions and the words of the verdict, as pure functions. Must not know: models,
stores, how anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.types import Check, Evaluation, GateLimits, SuiteResult, Verdict


def judge(evaluation: Evaluation, limits: GateLimits) -> Verdict:
    """Hold a candidate against every condition; it is promoted only if all of them hold."""
    checks = [_margin(evaluation, limits), _drift(evaluation, limits), _length(evaluation, limits)]
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
        f"{margin.mean:+.2f} nats ({margin.low:+.2f} to {margin.high:+.2f}) towards the preferred "
        f"answers, on {margin.n} effective held-out items"
    )
    if margin.n == 0:
        return Check(
            "preference margin", False, "no feedback was held out to judge it by; collect more"
        )
    if margin.n < limits.few_held_out:
        # Too few to prove anything, so only the direction counts.
        return Check("preference margin", margin.mean > 0, f"{figures}; too few for proof")
    return Check("preference margin", margin.low > 0, f"{figures}; the interval must be over 0")


def _drift(evaluation: Evaluation, limits: GateLimits) -> Check:
    return Check(
        "distance from the base",
        evaluation.kl_to_base <= limits.kl_cap,
        f"KL {evaluation.kl_to_base:.2f} nats an answer, allowed up to {limits.kl_cap:g}",
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


def _suite(suite: SuiteResult, limits: GateLimits) -> Check:
    """A small drop passes; a larger one only while it may still be chance.

    With 150 items a drop of one is 0.7 points. Up to `suite_drop_unproven` passes as long as
    the paired interval includes no change, because so few flips happen between equal models.
    """
    drop = suite.reference - suite.candidate
    unproven = _at_most(drop, limits.suite_drop_unproven) and suite.difference.high >= 0
    return Check(
        "regression suite",
        _at_most(drop, limits.suite_drop) or unproven,
        f"{suite.candidate:.1%} passed, the reference {suite.reference:.1%} (difference "
        f"{100 * suite.difference.low:+.1f} to {100 * suite.difference.high:+.1f} points)",
    )


def _suite_against_base(suite: SuiteResult, limits: GateLimits) -> Check:
    """Drops that passed one by one must not add up over many rounds."""
    return Check(
        "regression suite against the base",
        _at_most(suite.base - suite.candidate, limits.suite_drop_total),
        f"{suite.candidate:.1%} passed, the base {suite.base:.1%}, allowed "
        f"{100 * limits.suite_drop_total:g} points less",
    )


def _at_most(value: float, limit: float) -> bool:
    return value <= limit + 1e-9  # shares are sums of floats
