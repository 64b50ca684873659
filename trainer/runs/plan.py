"""What to train for a snapshot: which method, from where. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.types import Learning
from feedback.types import Label, Pair, Snapshot
from trainer.types import MethodName, Start


@dataclass(frozen=True, slots=True)
class Candidate:
    """One adapter to train and judge."""

    method: MethodName
    start: Start

    @property
    def name(self) -> str:
        """Its folder and its name in the log."""
        return f"{self.method}-{self.start}"


def method_for(snapshot: Snapshot, learning: Learning) -> MethodName:
    """DPO where pairs carry most of what was said, else KTO (which also reads pairs as labels).

    A pair says more than a label, so that pairs need only be half as many.
    """
    pairs = len(snapshot.train_pairs) + len(snapshot.held_out_pairs)
    labels = len(snapshot.train_labels) + len(snapshot.held_out_labels)
    enough = pairs >= learning.min_pairs
    return "dpo" if enough and 2 * pairs >= labels else "kto"


def candidates(snapshot: Snapshot, learning: Learning, *, has_live: bool) -> list[Candidate]:
    """Fresh from the base always; continued from the live version too where there is one.

    Continuing keeps what is not contradicted; a fresh start is what follows a change of mind.
    The gate chooses.
    """
    method = method_for(snapshot, learning)
    starts: list[Start] = ["fresh", "continued"] if has_live else ["fresh"]
    return [Candidate(method, start) for start in starts]


def training_examples(
    snapshot: Snapshot, method: MethodName, labels_of_pairs: list[Label]
) -> list[Label] | list[Pair]:
    """What the method is given: pairs for DPO; labels, and pairs read as labels, for KTO."""
    if method == "dpo":
        return list(snapshot.train_pairs)
    known = {(str(label.prompt), label.completion) for label in snapshot.train_labels}
    extra = [x for x in labels_of_pairs if (str(x.prompt), x.completion) not in known]
    return [*snapshot.train_labels, *extra]
