"""What holds for all tests: the quick ones load neither torch nor vLLM."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

QUICK = {"architecture", "unit", "contract"}
HEAVY = {"torch", "vllm", "trl"}


@pytest.fixture(scope="session")
def all_quick(request: pytest.FixtureRequest) -> bool:
    """Whether only quick tests were asked for: nothing else can have loaded what is heavy."""
    here = Path(__file__).parent
    rooms = {item.path.relative_to(here).parts[0] for item in request.session.items}
    return rooms <= QUICK


@pytest.fixture(autouse=True)
def light(all_quick: bool) -> Iterator[None]:
    """A quick test that loads torch belongs to `tests/integration`."""
    yield
    if all_quick and (loaded := HEAVY & sys.modules.keys()):
        pytest.fail(f"This test loaded {', '.join(sorted(loaded))}: move it to tests/integration.")
