"""The suite's file format and what counts as containing a fact."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import Invalid
from trainer.judging.conditions import contains
from trainer.judging.suite import SuiteItem, load_suite


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        ("Go to desk 12.", "12", True),
        ("Go to desk 123.", "12", False),
        ("Go to desk 312.", "12", False),
        ("It opens at 12:30.", "12", False),
        ("It opens at 12:30, sir.", "12:30", True),
        ("It costs 1.12 today.", "12", False),
        ("It costs 12,5 today.", "12", False),
        ("Desks 11, 12, 13.", "12", True),
        ("The MARKET hall", "market hall", True),
        ("The supermarket", "market", False),
        ("It is (free).", "free", True),
        ("It costs $5.", "$5", True),
    ],
)
def test_facts_are_whole_words_and_numbers_exact(text: str, wanted: str, found: bool) -> None:
    assert contains(text, wanted) is found


def test_an_item_that_must_end_fails_a_cut_answer() -> None:
    item = SuiteItem("q", (), "format", must_end=True, max_tokens=10)
    assert item.passes("fine", tokens=10, ended=True)
    assert not item.passes("fine", tokens=10, ended=False)
    assert not item.passes("fine", tokens=11, ended=True)


def test_a_suite_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "suite.jsonl"
    path.write_text(
        '{"prompt": "When?", "must_contain": ["9:00"], "kind": "facts"}\n\n'
        '{"prompt": [{"role": "user", "content": "Hi"}], "must_end": true, "max_tokens": 5}\n'
    )
    first, second = load_suite(path)
    assert first == SuiteItem(({"role": "user", "content": "When?"},), ("9:00",), "facts")
    assert (second.must_end, second.max_tokens, second.must_contain) == (True, 5, ())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected an object"),
        ('{"prompt": "a", "must_contain": "b"}', "must_contain is a list"),
        ('{"prompt": "", "must_contain": ["b"]}', "prompt is a text"),
        ('{"prompt": [{"content": "a"}], "must_contain": ["b"]}', "with a role"),
        ('{"prompt": "a"}', "it asks for nothing"),
        ('{"prompt": "a", "must_contain": ["b"], "mustend": true}', "unknown keys mustend"),
        ('{"prompt": "a", "must_end": true, "max_tokens": 0}', "max_tokens is a whole number"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "suite.jsonl"
    path.write_text('{"prompt": "a", "must_contain": ["b"]}\n' + line + "\n")
    with pytest.raises(Invalid, match=r"suite\.jsonl, line 2") as caught:
        load_suite(path)
    assert complaint in caught.value.message


def test_a_missing_or_empty_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        load_suite(tmp_path / "absent.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(Invalid, match="is empty"):
        load_suite(tmp_path / "empty.jsonl")
