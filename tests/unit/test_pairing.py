"""What feedback amounts to: the rules one by one, then what holds for any feedback at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback.learning.judgement import Reader
from feedback.learning.pairing import agree, examples
from feedback.learning.texts import Texts
from feedback.types import Comparison, Feedback, Interaction, Label, Learnable, Pair

Judged = tuple[Feedback, Interaction]

ACME, OTHER = TenantId("acme"), TenantId("other")
SUPPORT, SALES = AdapterId("support"), AdapterId("sales")


def answer(text: str = "By the river.", *, prompt: str = "Where?", **changes: Any) -> Interaction:
    plain = Interaction(
        id=CompletionId(f"{prompt}{text}"),
        tenant_id=ACME,
        endpoint="chat.completions",
        created_at_s=0.0,
        outcome="completed",
        model_requested="support",
        model_answered="support@7",
        adapter_id=SUPPORT,
        version=7,
        explored=False,
        prompt=({"role": "user", "content": prompt},),
        answers=(text,),
        finish_reason="stop",
        end_user="ann",
    )
    return replace(plain, **changes)


def say(about: Interaction, value: Any = None, at_s: float = 10.0, **changes: Any) -> Judged:
    user = changes.get("end_user")
    item = Feedback(
        id=FeedbackId(f"{about.id}|{user}|{value}|{at_s}"),
        tenant_id=ACME,
        created_at_s=at_s,
        completion_id=about.id,
        value=value,
    )
    return replace(item, **changes), about


def compare(preferred: Interaction, *rejected: Interaction, **changes: Any) -> list[Judged]:
    compared = Comparison(preferred.id, tuple(it.id for it in rejected))
    item, _ = say(preferred, completion_id=None, comparison=compared, **changes)
    return [(item, about) for about in (preferred, *rejected)]


def learn(*judged: Judged, **options: Any) -> Learnable:
    items, answers = dict[str, Feedback](), dict[str, list[Interaction]]()
    for item, about in judged:
        items[item.id] = item
        answers.setdefault(item.id, []).append(about)
    texts = Texts(keep=True)
    reader = Reader(SUPPORT, texts)
    said = [reader.judgement(item, answers[name]) for name, item in items.items()]
    return examples(agree(said, **{"now_s": 100.0, **options}), texts)


def test_a_thumb_becomes_a_label() -> None:
    said = say(answer(), False)
    assert learn(said).labels == (
        Label(
            prompt=({"role": "user", "content": "Where?"},),
            completion="By the river.",
            desirable=False,
            version=7,
            end_user="ann",
            at_s=10.0,
            feedback_ids=(said[0].id,),
            interaction_ids=(said[1].id,),
        ),
    )


def test_the_latest_thumb_of_a_user_on_an_answer_wins() -> None:
    result = learn(say(answer(), True, 10.0), say(answer(), False, 20.0))
    assert [label.desirable for label in result.labels] == [False]
    assert result.dropped == {"superseded": 1}


def test_a_change_of_mind_reaches_the_same_text_in_another_answer() -> None:
    once, again = answer(), answer(id=CompletionId("again"), version=8)
    result = learn(say(again, True, 20.0), say(once, False, 10.0))
    assert [(label.desirable, label.version) for label in result.labels] == [(True, 8)]
    assert result.dropped == {"superseded": 1}


def test_a_changed_item_counts_from_when_it_was_changed() -> None:
    changed = say(answer(), True, 10.0, updated_at_s=30.0)
    result = learn(changed, say(answer(), False, 20.0))
    assert [label.desirable for label in result.labels] == [True]


def test_agreeing_feedback_is_merged_into_one_label() -> None:
    said = [say(answer(), True, at, end_user=user) for at, user in ((1.0, "a"), (2.0, "b"))]
    (label,) = learn(*said).labels
    assert label.feedback_ids == tuple(sorted(item.id for item, _ in said))
    assert (label.at_s, label.end_user) == (2.0, None)


def test_the_majority_of_users_decides() -> None:
    votes = [say(answer(), user != "c", end_user=user) for user in "abc"]
    result = learn(*votes)
    assert [label.desirable for label in result.labels] == [True]
    assert result.dropped == {"outvoted": 1}


def test_one_user_has_one_voice_however_often_it_is_raised() -> None:
    loud = [say(answer(), False, float(at), end_user="loud") for at in range(9)]
    result = learn(*loud, say(answer(), True, end_user="a"), say(answer(), True, end_user="b"))
    assert [label.desirable for label in result.labels] == [True]


def test_a_tie_between_users_teaches_nothing() -> None:
    result = learn(say(answer(), True, end_user="a"), say(answer(), False, end_user="b"))
    assert (result.labels, result.dropped) == ((), {"contradicted": 2})


def test_a_correction_becomes_a_pair() -> None:
    (pair,) = learn(say(answer(), correction="On the hill.")).pairs
    assert (pair.chosen, pair.rejected) == ("On the hill.", "By the river.")
    assert (pair.origin, pair.version) == ("correction", 7)


def test_a_correction_that_changes_nothing_is_dropped() -> None:
    result = learn(say(answer(), correction=" By the river.\n"))
    assert (result.pairs, result.dropped) == ((), {"unchanged_correction": 1})


def test_a_thumb_sent_with_a_correction_counts_too() -> None:
    result = learn(say(answer(), False, correction="On the hill."))
    assert (len(result.labels), len(result.pairs), result.dropped) == (1, 1, {})


def test_a_comparison_becomes_a_pair_per_rejected_answer() -> None:
    result = learn(*compare(answer("a"), answer("b"), answer("c")))
    assert [(p.chosen, p.rejected, p.origin) for p in result.pairs] == [
        ("a", "b", "comparison"),
        ("a", "c", "comparison"),
    ]


def test_an_adapter_learns_from_being_compared_with_the_base_but_not_with_another() -> None:
    base = answer("b", adapter_id=None, version=None)
    assert learn(*compare(base, answer("a"))).pairs[0].chosen == "b"
    other = answer("b", adapter_id=SALES)
    assert learn(*compare(answer("a"), other)).dropped == {"other_adapter": 1}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (answer("b", prompt="Who?"), "prompts_differ"),
        (answer("a ", id=CompletionId("x")), "same_text"),
        (answer(" "), "empty_answer"),
    ],
)
def test_what_cannot_be_compared_is_dropped(other: Interaction, reason: str) -> None:
    assert learn(*compare(answer("a"), other)).dropped == {reason: 1}


def test_a_comparison_with_an_answer_not_logged_is_dropped() -> None:
    first, _ = compare(answer("a"), answer("b"))
    assert learn(first).dropped == {"unknown_answer": 1}


def test_users_who_prefer_opposite_answers_teach_nothing() -> None:
    one = compare(answer("a"), answer("b"), end_user="ann", id=FeedbackId("1"))
    two = compare(answer("b"), answer("a"), end_user="bob", id=FeedbackId("2"))
    result = learn(*one, *two)
    assert (result.pairs, result.dropped) == ((), {"contradicted": 2})


def test_a_good_and_a_bad_answer_to_one_prompt_are_a_pair_as_well() -> None:
    result = learn(say(answer("a"), True), say(answer("b"), False), say(answer("c"), False, 5.0))
    assert len(result.labels) == 3
    assert [(p.chosen, p.rejected, p.origin) for p in result.pairs] == [("a", "b", "ratings")]


def test_ratings_do_not_overrule_a_comparison() -> None:
    rated = [say(answer("a"), True), say(answer("b"), False)]
    result = learn(*rated, *compare(answer("b"), answer("a")))
    assert [(p.chosen, p.origin) for p in result.pairs] == [("b", "comparison")]


def test_scores_are_centred_per_user() -> None:
    """Mean 2.5, deviation 1.5: 1 and 4 lie a whole one away; each user has a mean of their own."""
    scores = {"a": 1.0, "b": 4.0, "c": 1.0, "d": 4.0}
    said = [say(answer(t, prompt=t), v, name="score") for t, v in scores.items()]
    generous = [
        say(answer(t, prompt=t), v + 5, name="score", end_user="z") for t, v in scores.items()
    ]
    for group in (said, generous):
        result = learn(*group)
        assert {x.completion: x.desirable for x in result.labels} == {
            "a": False, "b": True, "c": False, "d": True,
        }  # fmt: skip


def test_middling_scores_and_too_few_of_them_are_dropped() -> None:
    values = [1.0, 3.0, 3.0, 5.0]
    said = [say(answer(str(n), prompt=str(n)), v, name="score") for n, v in enumerate(values)]
    assert learn(*said).dropped == {"middling_score": 2}
    assert learn(*said[:3]).dropped == {"too_few_scores": 3}


def test_two_scores_within_one_prompt_are_a_pair() -> None:
    result = learn(say(answer("a"), 4.0, name="score"), say(answer("b"), 2.0, name="score"))
    assert [(p.chosen, p.rejected, p.origin) for p in result.pairs] == [("a", "b", "ratings")]
    assert result.dropped == {}


def test_scores_of_different_names_are_not_mixed() -> None:
    long, poor = say(answer("a"), 400.0, name="length"), say(answer("b"), 2.0, name="score")
    assert learn(long, poor).pairs == ()
    assert len(learn(long, poor, say(answer("c"), 4.0, name="score")).pairs) == 1


def test_the_scores_of_a_judge_that_never_varies_say_nothing() -> None:
    said = [say(answer(t, prompt=t), 5.0, name="score") for t in "abcd"]
    assert learn(*said).dropped == {"middling_score": 4}


def test_old_feedback_expires() -> None:
    result = learn(say(answer("a"), True, 10.0), say(answer("b"), True, 60.0), expire_after_s=50.0)
    assert [label.completion for label in result.labels] == ["b"]
    assert result.dropped == {"expired": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answers": (" \n",)}, "empty_answer"),
        ({"answers": ()}, "no_such_choice"),
        ({"finish_reason": "tool_calls"}, "tool_calls"),
        ({"response": {"choices": [{"message": {"tool_calls": [{"id": "1"}]}}]}}, "tool_calls"),
        ({"prompt": ({"role": "tool", "content": "4"},)}, "tool_calls"),
        ({"prompt": ({"role": "user", "content": [{"type": "image_url"}]},)}, "not_text"),
        ({"outcome": "cancelled"}, "not_completed"),
        ({"adapter_id": SALES}, "other_adapter"),
        ({"adapter_id": None}, "other_adapter"),
        ({"tenant_id": OTHER}, "other_tenant"),
    ],
)
def test_what_cannot_be_learnt_from_is_counted(changes: dict[str, Any], reason: str) -> None:
    result = learn(say(replace(answer(), **changes), True))
    assert (result.labels, result.pairs, result.dropped) == ((), (), {reason: 1})


def test_comments_and_named_words_are_counted_not_learnt_from() -> None:
    said = [say(answer(), comment="thanks"), say(answer(), "blue", name="colour")]
    assert learn(*said).dropped == {"comment": 2}


def test_a_prompt_in_parts_is_the_same_prompt_as_plain_text() -> None:
    parts = ({"role": "user", "content": [{"type": "text", "text": "Where?"}], "name": "ann"},)
    inner = replace(answer("b"), prompt=parts)
    assert len(learn(say(answer("a"), True), say(inner, False)).pairs) == 1


def test_judges_are_heard() -> None:
    judge = say(answer("a"), True, source_kind="llm", source_id="judge")
    result = learn(judge, say(answer("b"), True))
    assert [label.desirable for label in result.labels] == [True, True]


def test_no_user_outweighs_a_shared_adapter() -> None:
    """10 of one user and 3 each of two others; 6 + 3 + 3 is the most in which none is over half."""
    said = [say(answer(str(n)), True, float(n), end_user="loud") for n in range(10)]
    said += [say(answer(f"{u}{n}"), True, end_user=u) for u in "ab" for n in range(3)]
    result = learn(*said, max_share_per_user=0.5)
    loud = [label.completion for label in result.labels if label.end_user == "loud"]
    assert loud == ["4", "5", "6", "7", "8", "9"]
    assert result.dropped == {"over_user_share": 4}


def test_a_sole_user_may_teach_a_shared_adapter() -> None:
    said = [say(answer(str(n)), True) for n in range(5)]
    assert len(learn(*said, max_share_per_user=0.2).labels) == 5


texts = st.sampled_from(["a", "b", "b ", "c", " "])
users = st.sampled_from(["ann", "bob", None])


@st.composite
def interactions(draw: st.DrawFn) -> Interaction:
    text, prompt = draw(texts), draw(st.sampled_from(["p", "q"]))
    return answer(
        text,
        prompt=prompt,
        id=CompletionId(f"c{draw(st.integers(0, 30))}"),
        tenant_id=draw(st.sampled_from([ACME] * 6 + [OTHER])),
        adapter_id=draw(st.sampled_from([SUPPORT] * 6 + [SALES, None])),
        outcome=draw(st.sampled_from(["completed"] * 5 + ["failed"])),
        version=draw(st.sampled_from([None, 1, 2])),
        end_user=draw(users),
    )


@st.composite
def judgements(draw: st.DrawFn) -> list[Judged]:
    known = draw(st.lists(interactions(), min_size=1, max_size=6, unique_by=lambda it: it.id))
    judged: list[Judged] = []
    for n in range(draw(st.integers(0, 14))):
        about = draw(st.sampled_from(known))
        common = {
            "id": FeedbackId(f"f{n}"),
            "at_s": float(draw(st.integers(0, 5))),
            "end_user": draw(users),
            "source_kind": draw(st.sampled_from(["human", "llm"])),
        }
        if draw(st.integers(0, 3)) == 0:
            rejected = draw(st.lists(st.sampled_from(known), min_size=1, unique_by=id))
            judged += compare(about, *(it for it in rejected if it is not about), **common)
            continue
        value = draw(st.sampled_from([True, False, None, 1.0, 2.0, 5.0]))
        correction = draw(st.sampled_from([None, None, "a", "d"]))
        judged.append(say(about, value, correction=correction, **common))
    return judged


shares = st.sampled_from([None, 0.3, 0.5])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(judgements(), shares, st.randoms(use_true_random=False))
def test_whatever_is_said(judged: list[Judged], share: float | None, shuffled: Any) -> None:
    options: dict[str, Any] = {"expire_after_s": 98.0, "max_share_per_user": share}
    result = learn(*judged, **options)
    again = list(judged)
    shuffled.shuffle(again)
    assert learn(*again, **options) == result

    examples: Sequence[Label | Pair] = [*result.labels, *result.pairs]
    used = {i for example in examples for i in example.feedback_ids}
    assert len(used) + sum(result.dropped.values()) == len({item.id for item, _ in judged})

    known = {it.id: it for _, it in judged}
    for example in examples:
        sources = [known[i] for i in example.interaction_ids]
        assert {it.tenant_id for it in sources} == {ACME}
        assert {it.adapter_id for it in sources} - {None} == {SUPPORT}
        assert {it.outcome for it in sources} == {"completed"}

    seen_labels = [(str(x.prompt), x.completion) for x in result.labels]
    assert len(set(seen_labels)) == len(seen_labels)
    seen_pairs = [(str(x.prompt), frozenset([x.chosen, x.rejected])) for x in result.pairs]
    assert len(set(seen_pairs)) == len(seen_pairs)
    assert all(x.chosen.strip() != x.rejected.strip() for x in result.pairs)
