"""What `POST /v1/feedback` accepts, what it makes of it, and what it refuses with which words."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import Invalid
from core.ids import TenantId
from feedback.receivers.base import Result, alone
from feedback.receivers.native import FeedbackBody, NativeReceiver, feedback_said
from feedback.types import Comparison, Feedback


def parsed(**body: Any) -> Feedback:
    sent = alone(body, FeedbackBody.model_validate)
    if isinstance(sent, Result):
        raise sent.error
    return feedback_said(sent, tenant_id=TenantId("acme"), at_s=12.5)


def refused(**body: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        parsed(**body)
    return caught.value


@pytest.mark.parametrize("name", [{}, {"name": "thumb"}, {"metric_name": "thumbs"}])
@pytest.mark.parametrize(
    ("value", "good"),
    [
        (True, True),
        (False, False),
        ("up", True),
        ("down", False),
        (1, True),
        (-1, False),
        (0, False),
        (1.0, True),
    ],
)
def test_a_thumb_has_many_spellings(name: dict[str, str], value: Any, good: bool) -> None:
    item = parsed(completion_id="c", value=value, **name)
    assert (item.name, item.kind) == ("thumb", "thumb")
    assert item.value is good


@pytest.mark.parametrize("value", [2, 0.5, "great"])
def test_what_is_no_thumb_is_not_taken_for_one(value: Any) -> None:
    assert refused(completion_id="c", value=value).param == "name"
    assert refused(completion_id="c", name="thumb", value=value).param == "value"


@pytest.mark.parametrize(
    ("value", "kind"), [(True, "thumb"), (False, "thumb"), (1, "score"), (0, "score")]
)
def test_under_another_name_a_bool_stays_a_bool_and_a_number_a_number(
    value: Any, kind: str
) -> None:
    item = parsed(completion_id="c", name="helpful", value=value)
    assert item.kind == kind
    assert type(item.value) is (bool if kind == "thumb" else float)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, [1], {"a": 1}])
def test_a_value_that_is_no_finite_number_is_refused(value: Any) -> None:
    assert refused(completion_id="c", name="score", value=value).param == "value"


def test_everything_sent_arrives() -> None:
    item = parsed(
        id="mine-1",
        inference_id="c",
        choice_index=2,
        name="score",
        value=4,
        comment="nice",
        source={"kind": "llm", "id": "judge"},
        user="ann",
        tags={"a": "b"},
        metadata={"deep": [1, {"x": None}]},
    )
    assert item == Feedback(
        id=item.id,
        tenant_id=TenantId("acme"),
        created_at_s=12.5,
        completion_id=item.completion_id,
        choice_index=2,
        name="score",
        value=4.0,
        comment="nice",
        source_kind="llm",
        source_id="judge",
        end_user="ann",
        tags={"a": "b"},
        metadata={"deep": [1, {"x": None}]},
    )
    assert (item.id, item.completion_id) == ("mine-1", "c")


def test_an_id_is_made_when_none_is_sent() -> None:
    first, second = parsed(completion_id="c", value=True), parsed(completion_id="c", value=True)
    assert first.id.startswith("fb_")
    assert first.id != second.id


def test_a_dry_run_is_told_apart() -> None:
    body = FeedbackBody(completion_id="c", value=True, dryrun=True)
    assert NativeReceiver().dry_run(body)
    assert not NativeReceiver().dry_run(FeedbackBody(completion_id="c", value=True))


def test_a_correction_may_be_text_or_messages() -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "First."},
        {"role": "assistant", "content": [{"type": "text", "text": "Last."}]},
    ]
    assert parsed(completion_id="c", correction="Better.").correction == "Better."
    assert parsed(completion_id="c", correction=messages).correction == "Last."
    assert parsed(completion_id="c", correction="Better.").name == "correction"


@pytest.mark.parametrize("correction", ["", "  ", [], [{"role": "user", "content": "x"}], 3])
def test_a_correction_without_text_is_refused(correction: Any) -> None:
    assert refused(completion_id="c", correction=correction).param == "correction"


def test_reserved_metric_names_carry_their_text_in_the_value() -> None:
    comment = parsed(inference_id="c", metric_name="comment", value="Too long.")
    assert (comment.kind, comment.comment, comment.value) == ("comment", "Too long.", None)
    shown = parsed(inference_id="c", metric_name="demonstration", value="Like this.")
    assert (shown.kind, shown.correction, shown.value) == ("correction", "Like this.", None)


def test_a_comparison_needs_no_completion_id() -> None:
    item = parsed(comparison={"preferred": "a", "rejected": ["b", "c", "b"]})
    assert item.comparison == Comparison("a", ("b", "c"))  # type: ignore[arg-type]
    assert (item.kind, item.completion_id) == ("comparison", None)


@pytest.mark.parametrize(
    ("comparison", "param"),
    [
        ({"preferred": "a", "rejected": []}, "comparison.rejected"),
        ({"preferred": "a", "rejected": ["a"]}, "comparison.rejected"),
        ({"rejected": ["a"]}, "comparison.preferred"),
        ({"preferred": "a", "rejected": "b"}, "comparison.rejected"),
        ({"preferred": "a", "rejected": ["b"], "extra": 1}, "comparison.extra"),
    ],
)
def test_a_broken_comparison_is_refused_by_field(comparison: Any, param: str) -> None:
    assert refused(comparison=comparison).param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"completion_id": "c"}, "value"),
        ({"completion_id": "c", "comment": " "}, "value"),
        ({"value": True}, "completion_id"),
        ({"comment": "hello"}, "completion_id"),
        ({"episode_id": "e", "value": True}, "episode_id"),
        ({"completion_id": "c", "inference_id": "d", "value": True}, "completion_id"),
        ({"completion_id": "c", "value": True, "user": "a", "end_user": "b"}, "end_user"),
        ({"completion_id": "c", "value": True, "id": "../up"}, "id"),
        ({"completion_id": "c", "value": True, "choice_index": -1}, "choice_index"),
        ({"completion_id": "c", "value": True, "choice_index": True}, "choice_index"),
        ({"completion_id": "c", "value": True, "source": {"kind": "dog"}}, "source.kind"),
        ({"completion_id": "c", "value": True, "tags": {"a": 1}}, "tags.a"),
        ({"completion_id": "c", "value": True, "dryrun": 1}, "dryrun"),
        ({"completion_id": 7, "value": True}, "completion_id"),
        ({"completion_id": "c" * 161, "value": True}, "completion_id"),
        ({"completion_id": "c", "comment": "x" * 10_001}, "comment"),
        ({"completion_id": "c", "correction": "x" * 100_001}, "correction"),
        ({"completion_id": "c", "value": True, "metadata": {"a": "x" * 20_000}}, "metadata"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], param: str) -> None:
    assert refused(**body).param == param


def test_an_unknown_field_is_refused_with_the_name_it_resembles() -> None:
    error = refused(completion_id="c", value=True, coment="x")
    assert error.param == "coment"
    assert "'comment'" in error.message
    assert "metadata" in refused(completion_id="c", value=True, zzz="x").message


@pytest.mark.parametrize("text", ["a\0b", "half a pair \ud83d"])
def test_text_no_database_can_hold_is_refused(text: str) -> None:
    refused(completion_id="c", comment=text)
    refused(completion_id="c", value=True, metadata={"deep": [text]})


def test_numbers_that_are_no_json_and_endless_nesting_are_refused() -> None:
    odd = refused(completion_id="c", value=True, metadata={"a": float("nan")})
    assert (odd.param, odd.message) == ("metadata", "metadata: NaN and infinity are not taken.")
    nested: list[Any] = []
    for _ in range(120):
        nested = [nested]
    deep = refused(completion_id="c", value=True, metadata={"a": nested})
    assert (deep.param, deep.message[:10]) == ("metadata", "metadata: ")
    assert "nesting" in deep.message


def test_a_backslash_that_only_looks_like_nul_is_kept() -> None:
    assert parsed(completion_id="c", comment="\\u0000").comment == "\\u0000"
