"""Keys of a stranger's `rank_pattern` or `alpha_pattern`, regular expressions among them.

Owns how long they may run. An expression can go on for ever, so it runs only where a signal ends
it: in the main thread of the process of one upload (`adapters.intake.process`).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from adapters.patterns import Pattern, is_plain
from core.errors import Invalid

MOST_EXPRESSIONS = 200
MOST_CHARACTERS = 500
BUDGET_S = 2.0  # of the processor


class Keys:
    """What a pattern says of each module, as PEFT reads it: the first key that fits counts.

    Raises Invalid for an expression that is none, or more or longer ones than anybody needs.
    """

    def __init__(self, field: str, given: Mapping[str, Any], *, budget_s: float = BUDGET_S) -> None:
        self._field = field
        self._budget_s = budget_s
        self._plain = Pattern(given)
        odd = [(at, key) for at, key in enumerate(given) if not is_plain(key)]
        if len(odd) > MOST_EXPRESSIONS or any(len(key) > MOST_CHARACTERS for _, key in odd):
            raise Invalid(
                f"{field}: at most {MOST_EXPRESSIONS} keys may be regular expressions, of "
                f"{MOST_CHARACTERS} characters each; write module names instead.",
                param=field,
            )
        values = list(given.values())
        with self._bounded():
            self._odd = [(at, self._expression(key), values[at]) for at, key in odd]

    def of(self, modules: Sequence[str], otherwise: Any) -> dict[str, Any]:
        """Each module's value, `otherwise` where no key fits. Raises Invalid after `budget_s`."""
        with self._bounded():
            return {module: self._value(module, otherwise) for module in modules}

    def _value(self, module: str, otherwise: Any) -> Any:
        hit = self._plain.first(module)
        for at, expression, value in self._odd:
            if hit is not None and hit[0] < at:
                break
            if expression.match(module):
                return value
        return otherwise if hit is None else hit[1]

    def _expression(self, key: str) -> re.Pattern[str]:
        try:
            return re.compile(rf"(.*\.)?({key})$")
        except (re.error, OverflowError, RecursionError) as error:
            raise Invalid(
                f"{self._field}: '{key[:80]}' is no regular expression; write module names.",
                param=self._field,
            ) from error

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        def stop(*_: object) -> None:
            raise Invalid(
                f"{self._field}: its regular expressions do not end in {self._budget_s:g} s; write "
                "module names instead.",
                param=self._field,
            )

        before = signal.signal(signal.SIGVTALRM, stop)
        signal.setitimer(signal.ITIMER_VIRTUAL, self._budget_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
