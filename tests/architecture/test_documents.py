"""What the documents point at is there: files of the tree, other documents, their headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What is written down at its time (CHANGELOG.md, DECISIONS.md) may name what is gone.
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
ROOMS = "core|adapters|feedback|trainer|server|deploy|tests"
TESTS = "architecture|unit|contract|integration|drill"
INVENTED = {"core/migrations/versions/NNNN_what_it_does.py", "deploy/bench/results/NAME.json"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_a_document_names_is_there(path: Path) -> None:
    assert gone(files_named(path.read_text())) == []


def files_named(text: str) -> list[str]:
    """Paths of the tree in a text; those of tests may begin below `tests`."""
    named = re.findall(rf"`((?:{ROOMS})/[\w/*.-]+)`", text)
    return named + [f"tests/{name}" for name in re.findall(rf"`((?:{TESTS})/[\w/*.-]+)`", text)]


def gone(names: list[str]) -> list[str]:
    return [name for name in names if name not in INVENTED and not any(ROOT.glob(name.rstrip("/")))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue  # another site
        name, _, anchor = target.partition("#")
        other = path.parent / name if name else path
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other.read_text()), target


def anchors(text: str) -> set[str]:
    """A document's headings as links name them."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_what_is_gone_is_seen() -> None:
    named = files_named("`server/no_such.py`, `unit/test_world.py`, `unit/test_no_such.py`")
    assert gone(named) == ["server/no_such.py", "tests/unit/test_no_such.py"]
    assert anchors("# A `b` c, d\n") == {"a-b-c-d"}
