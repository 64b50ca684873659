"""The names that classes had when an earlier release remembered steps as done.

DBOS keeps what a step returned as a pickle, which names classes by module. A run begun before
they moved must be read by them. What is here may go once no such run can be under way.
"""

from __future__ import annotations

import sys
from importlib import import_module

import feedback.types
import trainer.types

_MODULES = {"trainer.plan": "trainer.runs.plan", "trainer.steps": "trainer.runs.steps"}
_CLASSES = ("Check", "Verdict")


def answer_to_former_names() -> None:
    """Let pickles find moved classes where they were."""
    for former, present in _MODULES.items():
        sys.modules[former] = import_module(present)
    for name in _CLASSES:
        setattr(feedback.types, name, getattr(trainer.types, name))
