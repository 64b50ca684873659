"""A file of human pairs, read as `attune import pairs` reads one; what is no pair is counted.

Must not know: which forms there are (`feedback.rows`), tokens, models.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from core.errors import Invalid
from deploy.importing.lines import read_lines
from feedback.learning.texts import prompt_key
from feedback.rows import read_row
from feedback.types import Message


@dataclass(frozen=True, slots=True)
class HumanPair:
    """A chat, the answer people preferred and the other one."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str

    @property
    def key(self) -> str:
        """Equal exactly for pairs of one prompt."""
        return prompt_key(self.prompt)


def read_pairs(path: Path) -> tuple[list[HumanPair], dict[str, int]]:
    """The file's pairs in order, and how many rows were left out by reason.

    Left out: rows that state no pair, and a pair that was there already. A prompt that is a text
    is what a user said. Raises Invalid with the number of a line that is no JSON, and for a file
    that cannot be read or holds no pair.
    """
    found: dict[tuple[str, str, str], HumanPair] = {}
    left_out: Counter[str] = Counter()
    for line in read_lines(path):
        if line.error is not None:
            told = f"{path.name}, line {line.number}: {line.error.message}"
            raise Invalid(f"{told} Mend or remove the line.")
        try:
            row = read_row(line.value, "pairs")
        except Invalid as error:
            left_out[error.message] += 1
            continue
        prompt = row.prompt
        asked = ({"role": "user", "content": prompt},) if isinstance(prompt, str) else prompt
        pair = HumanPair(asked, *row.answers)
        stated = (pair.key, pair.chosen, pair.rejected)
        if stated in found:
            left_out["repeated"] += 1
        found.setdefault(stated, pair)
    if not found:
        raise Invalid(
            f"{path.name} holds no pair to compare; left out: {dict(left_out) or 'none'}."
        )
    return list(found.values()), dict(left_out)
