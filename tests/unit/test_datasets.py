"""Frozen datasets: no leak between the sides, one digest for one content, no damage unseen."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Invalid
from core.ids import AdapterId, CompletionId, FeedbackId
from feedback.learning.datasets import counts, freeze, from_bytes, to_bytes
from feedback.types import Label, Pair, Snapshot

SUPPORT = AdapterId("support")


def label(prompt: str, desirable: bool, n: int = 0) -> Label:
    return Label(
        prompt=({"role": "user", "content": prompt},),
        completion=f"answer {n} \u20ac",
        desirable=desirable,
        version=None,
        end_user=None,
        at_s=1.5,
        feedback_ids=(FeedbackId(f"f{n}"),),
        interaction_ids=(CompletionId(f"c{n}"),),
    )


def pair(prompt: str, n: int = 0) -> Pair:
    return Pair(
        prompt=prompt,
        chosen="good",
        rejected="bad",
        origin="correction",
        version=3,
        end_user="ann",
        at_s=2.0,
        feedback_ids=(FeedbackId(f"p{n}"),),
        interaction_ids=(CompletionId(f"d{n}"),),
    )


def frozen(labels: Any = (), pairs: Any = (), share: float = 0.2) -> Snapshot:
    return freeze(SUPPORT, labels, pairs, {"expired": 2}, share)


LABELS = [label(f"prompt {n}", n % 4 == 0, n) for n in range(32)]
PAIRS = [pair(f"prompt {n}", n) for n in range(10)]


def test_a_fifth_of_the_prompts_is_held_out_of_each_kind() -> None:
    """8 good and 24 bad, each by its own prompt: round(1.6) + round(4.8) = 7 held out."""
    snapshot = frozen(LABELS)
    assert len(snapshot.train_labels) + len(snapshot.held_out_labels) == 32
    assert [x.desirable for x in snapshot.held_out_labels].count(True) == 2
    assert [x.desirable for x in snapshot.held_out_labels].count(False) == 5


def test_two_of_a_kind_are_enough_to_have_it_on_both_sides() -> None:
    few = frozen([label("a", True), label("b", True), label("c", False), label("d", False)])
    for side in (few.train_labels, few.held_out_labels):
        assert {x.desirable for x in side} == {True, False}


def test_nothing_is_held_out_when_nothing_should_be() -> None:
    assert frozen(LABELS, PAIRS, share=0.0).held_out_labels == ()
    assert frozen([label("only", True)]).held_out_labels == ()
    with pytest.raises(Invalid):
        frozen(LABELS, share=1.0)


def test_more_feedback_moves_few_prompts_across() -> None:
    before = {str(x.prompt) for x in frozen(LABELS[:24]).held_out_labels}
    after = frozen(LABELS)
    now_trained = {str(x.prompt) for x in after.train_labels}
    assert len(before & now_trained) <= len(before) // 2


def test_the_same_feedback_has_the_same_digest_however_often_it_is_frozen() -> None:
    first, later = frozen(LABELS, PAIRS), frozen(list(LABELS), list(PAIRS))
    assert first.digest == later.digest
    assert to_bytes(first) == to_bytes(later)


def test_other_feedback_another_share_or_another_adapter_has_another_digest() -> None:
    other_adapter = freeze(AdapterId("sales"), LABELS, PAIRS, {"expired": 2}, 0.2)
    snapshots = [
        frozen(LABELS, PAIRS),
        frozen(LABELS[1:], PAIRS),
        frozen(LABELS, PAIRS, share=0.5),
        other_adapter,
    ]
    assert len({snapshot.digest for snapshot in snapshots}) == 4


def test_the_digest_is_the_hash_of_the_stored_bytes() -> None:
    snapshot = frozen(LABELS, PAIRS)
    assert snapshot.digest == hashlib.sha256(to_bytes(snapshot)).hexdigest()


def test_a_snapshot_survives_storage() -> None:
    snapshot = frozen(LABELS, PAIRS)
    back = from_bytes(to_bytes(snapshot), digest=snapshot.digest)
    assert back == snapshot


STORED = (
    b'{"adapter_id":"support","dropped":{},"format":1,"held_out_labels":[],"held_out_pairs":[],'
    b'"train_labels":[],"train_pairs":[{"at_s":2.0,"chosen":"By the river.","end_user":"ann",'
    b'"feedback_ids":["f1"],"interaction_ids":["c1"],"origin":"correction","prompt":"Where?",'
    b'"rejected":"Nowhere.","version":null}]}'
)
STORED_DIGEST = "5e14791b5b22d6b9b8788b2f57198aec86c9e404930d9d0996bd29ac621d2035"


def test_a_snapshot_stored_by_the_first_release_is_read_and_keeps_its_digest() -> None:
    back = from_bytes(STORED, digest=STORED_DIGEST)
    assert to_bytes(back) == STORED
    assert [(one.chosen, one.origin) for one in back.train_pairs] == [
        ("By the river.", "correction")
    ]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"format":2}', b"\xff"])
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        from_bytes(data)


def test_a_damaged_snapshot_is_refused() -> None:
    snapshot = frozen(LABELS)
    with pytest.raises(Invalid, match="damaged"):
        from_bytes(to_bytes(snapshot).replace(b"answer 1 ", b"answer 9 "), digest=snapshot.digest)


def test_what_is_in_a_snapshot_is_counted() -> None:
    assert counts(frozen(LABELS, PAIRS, share=0.0)) == {
        "train_labels": 32,
        "train_pairs": 10,
        "held_out_labels": 0,
        "held_out_pairs": 0,
        "labels_up": 8,
        "labels_down": 24,
        "dropped": 2,
    }


prompts = st.sampled_from("abcdefgh")
some_labels = st.lists(st.builds(label, prompts, st.booleans(), st.integers(0, 99)), max_size=20)
some_pairs = st.lists(st.builds(pair, prompts), max_size=6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(some_labels, some_pairs, st.sampled_from([0.1, 0.2, 0.5, 0.9]))
def test_no_prompt_is_on_both_sides_and_nothing_is_lost(
    labels: list[Label], pairs: list[Pair], share: float
) -> None:
    snapshot = frozen(labels, pairs, share)
    train = {str(x.prompt) for x in (*snapshot.train_labels, *snapshot.train_pairs)}
    held_out = {str(x.prompt) for x in (*snapshot.held_out_labels, *snapshot.held_out_pairs)}
    assert not train & held_out
    assert len(snapshot.train_labels) + len(snapshot.held_out_labels) == len(labels)
    assert len(snapshot.train_pairs) + len(snapshot.held_out_pairs) == len(pairs)
    assert from_bytes(to_bytes(snapshot)) == snapshot


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.integers(0, 40), st.booleans(), max_size=20))
def test_where_each_prompt_has_one_label_both_kinds_are_on_both_sides(
    rated: dict[int, bool],
) -> None:
    snapshot = frozen([label(str(n), good, n) for n, good in rated.items()])
    for good in (True, False):
        if list(rated.values()).count(good) > 1:
            assert good in {x.desirable for x in snapshot.train_labels}
            assert good in {x.desirable for x in snapshot.held_out_labels}
