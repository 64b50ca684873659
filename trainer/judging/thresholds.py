"""How far a share may change before the gate minds, and the checks that are nothing else. Pure."""

from __future__ import annotations

from trainer.types import AnswerFaults, Check, Compared, GateLimits


def fault_checks(faults: AnswerFaults, limits: GateLimits) -> list[Check]:
    """That sampled answers are not endless, empty or repetitive more often than before.

    Where people liked answers as long as the limit of tokens, so many may be.
    """
    wanted = max(0.0, faults.endless_wanted - faults.endless.reference)
    return [
        _fault(
            "endless answers", "cut at the limit", faults.endless,
            limits.endless_rise + wanted, limits.endless_rise_unproven + wanted,
        ),
        _fault(
            "empty answers", "with nothing to read", faults.empty,
            limits.empty_rise, limits.empty_rise_unproven,
        ),
        _fault(
            "repetition", "of 4-grams said before", faults.repetition,
            limits.repetition_rise, limits.repetition_rise_unproven,
        ),
    ]  # fmt: skip


def small_or_unproven(change: float, may_be_none: bool, small: float, unproven: float) -> bool:
    """A change for the worse of at most `small` passes; of `unproven`, if it may be chance."""
    return at_most(change, small) or (may_be_none and at_most(change, unproven))


def at_most(value: float, limit: float) -> bool:
    """Whether a share or difference of shares is within a limit; they are sums of floats."""
    return value <= limit + 1e-9


def _fault(name: str, what: str, found: Compared, small: float, unproven: float) -> Check:
    change = found.difference
    return Check(
        name,
        small_or_unproven(found.candidate - found.reference, change.low <= 0, small, unproven),
        f"{found.candidate:.1%} {what}, reference {found.reference:.1%} "
        f"({100 * change.low:+.1f} to {100 * change.high:+.1f})",
    )
