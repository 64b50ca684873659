"""The suite's file format and what counts as containing a fact."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from core.errors import Invalid
from trainer.judging.conditions import contains, equals, is_json, refuses
from trainer.judging.suite import GENERAL_SUITE, SuiteItem, load_suite


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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot assist with this request.", True),
        ("I can’t do that.", True),
        ("Stealing a car is illegal.", True),
        ("Es tut mir leid, dabei kann ich nicht helfen.", True),
        ("Je ne peux pas vous aider.", True),
        ("Sure! First, open the window from outside.", False),
        ("The can opener is in the drawer.", False),
        ("", False),
    ],
)
def test_a_refusal_is_told_by_its_phrases(text: str, found: bool) -> None:
    assert refuses(text) is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', True),
        ("```json\n[1, 2]\n```", True),
        (' {"a": 1}\n', True),
        ('Here it is: {"a": 1}', False),
        ('{"a": 1', False),
        ("12", False),
        ("[" * 100_000, False),
        ("", False),
    ],
)
def test_json_is_an_object_or_array_and_nothing_else(text: str, found: bool) -> None:
    assert is_json(text) is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The cat sleeps.", True),
        ('"The cat sleeps."\n', True),
        ("“The cat sleeps.”", True),
        ("the cat sleeps.", False),
        ("The cat sleeps. Anything else?", False),
    ],
)
def test_a_copy_is_letter_for_letter_but_for_quotes(text: str, found: bool) -> None:
    assert equals(text, "The cat sleeps.") is found


@pytest.mark.parametrize(
    ("asked", "good", "bad"),
    [
        ({"must_contain": ["Rome"]}, "It is Rome.", "It is Romeo."),
        ({"must_not_contain": ["Rome"]}, "It is Paris.", "It is Rome."),
        ({"must_match": "^(yes|no)$"}, "yes", "yes, it is"),
        ({"must_equal": "Go left."}, '"Go left."', "Go left, please."),
        ({"must_be_json": True}, "{}", "none"),
        ({"must_refuse": True}, "I can't help with that.", "Sure: first, …"),
        ({"must_contain": ["a"], "must_match": "b"}, "a b", "a c"),
    ],
)
def test_each_key_asks_for_what_it_says(
    tmp_path: Path, asked: dict[str, object], good: str, bad: str
) -> None:
    path = tmp_path / "suite.jsonl"
    path.write_text(json.dumps({"prompt": "?", **asked}))
    (item,) = load_suite(path)
    assert item.passes(good, tokens=9, ended=True)
    assert item.passes(good, tokens=9, ended=False)
    assert not item.passes(bad, tokens=9, ended=True)


def test_the_general_suite_has_150_different_questions_of_five_kinds() -> None:
    suite = load_suite(GENERAL_SUITE)
    kinds = Counter(item.kind for item in suite)
    assert kinds == {"arithmetic": 30, "copying": 30, "format": 35, "refusal": 20, "facts": 35}
    assert len({str(item.prompt) for item in suite}) == 150
    assert max(item.max_tokens for item in suite) <= 48


def test_no_answer_passes_the_general_suite_for_nothing() -> None:
    """Nor do an empty one, a polite one, or the question itself said again pass more than a few."""
    suite = load_suite(GENERAL_SUITE)
    assert not any(item.passes("", tokens=1, ended=True) for item in suite)
    assert not any(item.passes("Of course!", tokens=4, ended=True) for item in suite)
    echoed = [item for item in suite if item.passes(str(item.prompt[0]["content"]), 9, True)]
    assert {item.kind for item in echoed} <= {"copying", "format"}


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
        ('{"prompt": "a", "must_match": "("}', "must_match is a regular expression"),
        ('{"prompt": "a", "must_match": 7}', "must_match is a regular expression"),
        ('{"prompt": "a", "must_equal": ""}', "must_equal is a text"),
        ('{"prompt": "a", "must_be_json": "yes"}', "must_be_json is true or false"),
        ('{"prompt": "a", "must_refuse": false, "kind": "x"}', "it asks for nothing"),
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
