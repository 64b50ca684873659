"""Labels and pairs of answers whose tokens were kept: what they hold, and what is one prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from feedback.learning.datasets import freeze, from_bytes, to_bytes
from feedback.learning.judgement import Reader
from feedback.learning.pairing import agree, examples
from feedback.learning.recorded import Recorded, anything_fits
from feedback.learning.texts import Texts
from feedback.served import Served, ServedChoice, pack
from feedback.token_ids import pack_ids, unpack_ids
from feedback.types import Comparison, Feedback, Interaction, Label, Learnable, Pair
from trainer.methods import METHODS

ACME, SUPPORT = TenantId("acme"), AdapterId("support")
USER = ({"role": "user", "content": "Where?"},)
END = 2

Said = tuple[Feedback, tuple[Interaction, ...]]


def served(prompt: list[int], *sampled: list[int], **changes: Any) -> bytes:
    choices = tuple(ServedChoice(0, tuple(ids), "stop") for ids in sampled)
    return pack(replace(Served((tuple(prompt),), choices), **changes))


def answer(name: str, *texts: str, tokens: bytes | None, **changes: Any) -> Interaction:
    plain = Interaction(
        *(CompletionId(name), ACME, "chat.completions", 0.0, "completed", "support", "base"),
        *(SUPPORT, 1, False, USER, texts, "stop", "ann"),
        prompt_tokens=3,
        completion_tokens=2,
        tokens=tokens,
    )
    return replace(plain, **changes)


def say(about: Interaction, value: Any = None, at_s: float = 1.0, **fields: Any) -> Said:
    name = FeedbackId(f"{about.id} {value} {at_s} {sorted(fields)}")
    item = Feedback(name, ACME, at_s, about.id, value=value, end_user="ann")
    return replace(item, **fields), (about,)


def compare(best: Interaction, other: Interaction) -> Said:
    item, _ = say(best, completion_id=None, comparison=Comparison(best.id, (other.id,)))
    return item, (best, other)


def learn(*said: Said, encode: Any = anything_fits) -> Learnable:
    texts = Texts(keep=True)
    reader = Reader(SUPPORT, texts, encode)
    judged = [reader.judgement(item, about) for item, about in said]
    return examples(agree(judged, now_s=100.0), texts)


def ids(example: Label | Pair) -> list[list[int]]:
    assert example.ids is not None
    return [unpack_ids(packed) for packed in example.ids]


def by_words(recorded: Recorded) -> Any:
    """A trainer whose template reads every prompt as 1, 5, 6 and an answer's letters as ids."""
    own = recorded.ids or [100 + ord(letter) for letter in recorded.text] + [END]
    return recorded.prompt_ids or [1, 5, 6], own


def test_a_label_holds_the_ids_of_its_own_choice() -> None:
    three = answer("a", "x", "y", "z", tokens=served([1, 5, 6], [7, END], [8, 70_000], [9]))
    said = [say(three, n == 1, choice_index=n) for n in range(3)]
    labels = {label.completion: label for label in learn(*said).labels}
    assert ids(labels["x"]) == [[1, 5, 6], [7, END]]
    assert ids(labels["y"]) == [[1, 5, 6], [8, 70_000]]  # cut: no end token is put there
    assert ids(labels["z"]) == [[1, 5, 6], [9]]
    beyond = learn(say(three, True, choice_index=3))
    assert (beyond.labels, beyond.dropped) == ((), {"no_such_choice": 1})


@pytest.mark.parametrize("prompt", ['["p","q"]', ("p", "q"), ([1], [5, 6])])
def test_in_a_batch_each_choice_has_its_own_prompt(prompt: Any) -> None:
    choices = tuple(ServedChoice(at // 2, (7 + at, END), "stop") for at in range(4))
    tokens = pack(Served(((1,), (5, 6)), choices))
    batch = answer("a", *"abcd", tokens=tokens, prompt=prompt, endpoint="completions")
    labels = learn(*(say(batch, True, choice_index=n) for n in range(4))).labels
    assert sorted(map(ids, labels)) == [
        [[1], [7, END]], [[1], [8, END]], [[5, 6], [9, END]], [[5, 6], [10, END]],
    ]  # fmt: skip


def test_requests_are_of_one_prompt_exactly_when_their_ids_are_equal() -> None:
    """Parts joined differently are one prompt; the same words with tools offered are another."""
    parts = ({"role": "user", "content": [{"type": "text", "text": "Where?"}]},)
    up = answer("a", "Here.", tokens=served([1, 5], [7, END]))
    down = answer("b", "There.", tokens=served([1, 5], [8, END]), prompt=parts)
    tools = answer("c", "There.", tokens=served([1, 4, 4, 5], [8, END]))
    (pair,) = learn(say(up, True), say(down, False)).pairs
    assert ids(pair) == [[1, 5], [7, END], [8, END]]
    assert learn(say(up, True), say(tools, False)).pairs == ()
    assert learn(compare(up, down)).pairs[0].origin == "comparison"
    assert learn(compare(up, tools)).dropped == {"prompts_differ": 1}


def test_one_text_is_one_answer_however_it_was_split_and_the_newest_is_learnt() -> None:
    once = answer("a", "Here.", tokens=served([1, 5], [7, END]))
    again = answer("b", "Here.", tokens=served([1, 5], [3, 4, END]))
    result = learn(say(again, False, 2.0), say(once, True, 1.0))
    assert [ids(label) for label in result.labels] == [[[1, 5], [3, 4, END]]]
    assert result.dropped == {"superseded": 1}
    assert learn(compare(once, again)).dropped == {"same_text": 1}


CALLS = {"tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}


@pytest.mark.parametrize("text", ["", "Let me look."])
def test_calls_of_tools_are_learnt_and_told_apart_by_what_was_sampled(text: str) -> None:
    good, bad = (
        answer(name, text, tokens=served([1, 5], [7, n, END]), response=CALLS)
        for name, n in (("a", 8), ("b", 9))
    )
    result = learn(say(good, True), say(bad, False))
    assert sorted(ids(label)[1] for label in result.labels) == [[7, 8, END], [7, 9, END]]
    assert [ids(pair) for pair in result.pairs] == [[[1, 5], [7, 8, END], [7, 9, END]]]
    assert learn(say(good, correction="At noon.")).dropped == {"tool_calls": 1}
    without = replace(good, tokens=None)
    assert learn(say(without, True)).dropped == {"tool_calls": 1}


def test_prompts_with_tools_and_their_results_are_learnt() -> None:
    prompt = (
        *USER,
        {"role": "assistant", "content": None, **CALLS},
        {"role": "tool", "content": "7"},
    )
    asked = answer("a", "At seven.", tokens=served([1, 5, 9], [7, END]), prompt=prompt)
    (label,) = learn(say(asked, True)).labels
    assert (label.prompt, ids(label)) == (prompt, [[1, 5, 9], [7, END]])
    assert learn(say(replace(asked, tokens=None), True)).dropped == {"tool_calls": 1}


def test_what_was_thought_is_learnt_with_the_answer() -> None:
    thought = answer("a", "Seven.", tokens=served([1, 5], [30, 31, 32, 7, END]))
    only = answer("b", "", tokens=served([1, 5], [30, 31, 32]), finish_reason="length")
    (pair,) = learn(say(thought, True), say(only, False)).pairs
    assert ids(pair) == [[1, 5], [30, 31, 32, 7, END], [30, 31, 32]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokens": b"\xff"}, "not_as_served"),
        ({"tokens": served([1, 5], [END]), "answers": (" ",)}, "empty_answer"),
        ({"tokens": served([1, 5], []), "answers": ("",)}, "empty_answer"),
        ({"tokens": served([1, 5], [])}, "empty_answer"),  # the prompt's echo alone
        ({"tokens": pack(Served(((1,),), (ServedChoice(0, (7,), "abort"),)))}, "not_completed"),
        ({"tokens": None, "response": {"unfit": "multi_modal"}}, "multi_modal"),
        ({"tokens": None, "response": {"unfit": "several_prompts"}}, "several_prompts"),
        ({"tokens": None, "sampling": {"stop": ["\n"]}}, "not_as_served"),
        ({"tokens": None, "prompt": ("p", "q")}, "not_as_served"),
    ],
)
def test_what_cannot_be_learnt_as_it_was_served_is_counted(
    changes: dict[str, Any], reason: str
) -> None:
    fine = answer("a", "Here.", tokens=served([1, 5], [7, END]))
    assert len(learn(say(fine, True)).labels) == 1
    result = learn(say(replace(fine, **changes), True))
    assert (result.labels, result.dropped) == ((), {reason: 1})


def test_one_with_ids_and_one_without_are_compared_where_the_prompt_is_proven_equal() -> None:
    kept = answer("a", "Here.", tokens=served([1, 5, 6], [7, END]))
    other = answer("b", "There.", tokens=served([1, 4, 6], [7, END]))
    older = answer("c", "Yonder.", tokens=None)
    (pair,) = learn(compare(kept, older), encode=by_words).pairs
    assert ids(pair)[:2] == [[1, 5, 6], [7, END]]
    assert learn(compare(other, older), encode=by_words).dropped == {"prompts_differ": 1}
    assert learn(compare(kept, older)).dropped == {"prompts_differ": 1}  # nothing proves it


def test_a_correction_is_the_served_prompt_and_the_edited_answer() -> None:
    given = answer("a", "Here.", tokens=served([1, 9], [7, END]))
    (pair,) = learn(say(given, correction="Up"), encode=by_words).pairs
    assert ids(pair) == [[1, 9], [185, 212, END], [7, END]]
    (plain,) = learn(say(given, correction="Up")).pairs  # without a tokenizer: the texts alone
    assert (plain.chosen, plain.rejected, plain.ids) == ("Up", "Here.", None)


def test_a_prompt_that_was_served_is_on_one_side_alone_whatever_it_looks_like() -> None:
    parts = ({"role": "user", "content": [{"type": "text", "text": "Where?"}]}, {"role": "tool"})
    labels = [
        Label(prompt, f"{n}", True, 1, None, 1.0, (), (), (pack_ids([n // 2]), pack_ids([n])))
        for n in range(12)
        for prompt in [USER if n % 2 else parts]
    ]
    frozen = freeze(SUPPORT, labels, (), {}, 0.3)
    sides = [
        {ids(label)[0][0] for label in side}
        for side in (frozen.train_labels, frozen.held_out_labels)
    ]
    assert [len(side) for side in sides] == [4, 2]
    assert not sides[0] & sides[1]


def test_a_snapshot_keeps_ids_and_says_its_form() -> None:
    label = Label(USER, "x", True, 1, None, 1.0, (), (), (pack_ids([1, 5]), pack_ids([70_000])))
    pair = Pair(
        "q", "x", "y", "ratings", 1, None, 1.0, (), (),
        (pack_ids([1]), pack_ids([7]), pack_ids([])),
    )  # fmt: skip
    frozen = freeze(SUPPORT, [label], [pair, replace(pair, ids=None)], {}, 0.0)
    data = to_bytes(frozen)
    assert b'"format":2' in data
    assert b'"ids":["SAEABQA=","SXARAQA="]' in data
    assert from_bytes(data, digest=frozen.digest) == frozen
    assert b'"format":1' in to_bytes(freeze(SUPPORT, [replace(label, ids=None)], (), {}, 0.0))


def test_methods_hand_on_the_ids_and_read_no_thumb_twice() -> None:
    """The pair's liked answer is the label's; one of the same words after other ids is not."""
    label = Label("q", "x", True, 1, None, 1.0, (), (), (pack_ids([1]), pack_ids([7])))
    pair = Pair(
        "q", "x", "y", "correction", 1, None, 1.0, (), (),
        (pack_ids([1]), pack_ids([7]), pack_ids([8])),
    )  # fmt: skip
    tools = replace(pair, ids=(pack_ids([2]), *pair.ids[1:])) if pair.ids else pair
    frozen = freeze(SUPPORT, [label], [pair, tools], {}, 0.0)
    thumbs = [(one.desirable, *map(unpack_ids, one.ids)) for one in METHODS["kto"].examples(frozen)]
    assert thumbs == [
        (True, [1], [7]), (False, [1], [8]), (True, [2], [7]), (False, [2], [8]),
    ]  # fmt: skip
    shown = METHODS["sft"].examples(frozen)
    assert [[unpack_ids(ids) for ids in one.ids] for one in shown] == [[[1], [7]], [[2], [7]]]


any_ids = st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=30)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(any_ids, min_size=1, max_size=3), st.data())
def test_whatever_was_served_comes_out_of_a_snapshot_as_it_was(
    prompts: list[list[int]], data: st.DataObject
) -> None:
    sampled = data.draw(st.lists(any_ids, min_size=1, max_size=4))
    places = [data.draw(st.integers(0, len(prompts) - 1)) for _ in sampled]
    choices = tuple(
        ServedChoice(place, tuple(own), "stop") for place, own in zip(places, sampled, strict=True)
    )
    tokens = pack(Served(tuple(map(tuple, prompts)), choices))
    texts = [f"answer {n}" for n in range(len(sampled))]
    about = answer("a", *texts, tokens=tokens)
    learnt = learn(*(say(about, n % 2 == 0, choice_index=n) for n in range(len(sampled))))
    frozen = freeze(SUPPORT, learnt.labels, learnt.pairs, learnt.dropped, 0.2)
    back = from_bytes(to_bytes(frozen), digest=frozen.digest)
    found = {label.completion: ids(label) for label in (*back.train_labels, *back.held_out_labels)}
    assert found == {
        text: [prompts[place], own] for text, place, own in zip(texts, places, sampled, strict=True)
    }
