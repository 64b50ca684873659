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
KINDS_OF_TESTS = "architecture|unit|contract|integration|drill"
INVENTED = {"core/migrations/versions/NNNN_what_it_does.py", "deploy/bench/results/NAME.json"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_a_document_names_is_there(path: Path) -> None:
    text = path.read_text()
    named = re.findall(rf"`((?:{ROOMS})/[\w/*.-]+)`", text)
    named += [f"tests/{name}" for name in re.findall(rf"`((?:{KINDS_OF_TESTS})/[\w/*.-]+)`", text)]
    gone = [name for name in named if name not in INVENTED and not any(ROOT.glob(name.rstrip("/")))]
    assert gone == []


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
    assert not any(ROOT.glob("server/no_such_room.py"))
    assert anchors("# A `b` c, d\n") == {"a-b-c-d"}
