"""Text for people leaves through two doors, which spell out what a terminal would obey."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("core", "adapters", "feedback", "trainer", "server", "deploy")
DOORS = {
    "core/plain.py": "every print of plain text",
    "deploy/terminal.py": "every console, and --json, whose text is ASCII",
    "deploy/cli/bench.py": "figures in JSON",
    "deploy/export/process.py": "the protocol with its parent, JSON in a pipe",
    "deploy/bench/growth.py": "the protocol with its parent, JSON in a pipe",
    "adapters/intake/process.py": "the protocol with its parent, JSON in a pipe",
}
DEVELOPERS = "deploy/demo/pretrain/"
"""Makes the demo model, from nobody's words but its own."""
SPEAKERS = {"print", "Console", "TextColumn", "print_exc"}


def speakers(source: str) -> set[str]:
    """What of a module's calls writes to a terminal."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    called = {
        call.func.id if isinstance(call.func, ast.Name) else call.func.attr
        for call in calls
        if isinstance(call.func, ast.Name)
        or (isinstance(call.func, ast.Attribute) and call.func.attr != "print")
    }
    writes = "sys.stdout.write" in source or "sys.stderr.write" in source
    return called & SPEAKERS | ({"write"} if writes else set())


def test_a_print_and_a_console_are_seen() -> None:
    assert speakers("print(1)") == {"print"}
    assert speakers("import rich.console as c; c.Console().print(1)") == {"Console"}
    assert speakers("console.print(name)") == set()
    assert speakers("import sys; sys.stdout.write(name)") == {"write"}


def test_nothing_else_writes_to_a_terminal() -> None:
    found = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if name not in DOORS and not name.startswith(DEVELOPERS):
                found[name] = speakers(path.read_text())
    assert len(found) > 150
    assert {name: what for name, what in found.items() if what} == {}


def test_every_door_is_used() -> None:
    assert all(speakers((ROOT / name).read_text()) for name in DOORS)
