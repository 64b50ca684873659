"""What is watched instead of learnt from: by prompt, of both kinds, or nothing."""

from __future__ import annotations

from feedback.types import Pair
from trainer.methods import METHODS
from trainer.methods.holdout import MOST, split
from trainer.methods.kto import Thumb
from trainer.methods.sft import Demonstration

KTO, DPO, SFT = METHODS["kto"], METHODS["dpo"], METHODS["sft"]


def thumbs(ups: int, downs: int, per_prompt: int = 1) -> list[tuple[Thumb, tuple[list[int], ...]]]:
    """Thumbs whose prompt ids are [n], `per_prompt` answers to each."""
    found = []
    for number in range(ups + downs):
        prompt, liked = number // per_prompt, number < ups
        found.append((Thumb(f"q{prompt}", f"a{number}", liked), ([prompt], [1000 + number])))
    return found


def test_a_share_of_both_kinds_is_set_apart() -> None:
    divided = split(KTO, thumbs(40, 100), 0.2)
    assert (len(divided.watched.liked), len(divided.watched.disliked)) == (8, 20)
    assert len(divided.learnt) == 112


def test_no_prompt_is_on_both_sides_and_nothing_is_lost() -> None:
    examples = thumbs(60, 120, per_prompt=3)
    divided = split(KTO, examples, 0.2)
    answers = [*divided.watched.liked, *divided.watched.disliked]
    watched = {tuple(prompt) for prompt, _ in answers}
    learnt = {tuple(tokens[0]) for _, tokens in divided.learnt}
    assert watched
    assert not watched & learnt
    assert len(answers) + len(divided.learnt) == len(examples)


def test_the_same_examples_are_split_alike_in_any_order() -> None:
    examples = thumbs(40, 100)
    one, other = split(KTO, examples, 0.2), split(KTO, examples[::-1], 0.2)
    assert {row[1][0] for row in one.watched.liked} == {row[1][0] for row in other.watched.liked}


def test_nothing_is_set_apart_where_it_would_be_chance_alone() -> None:
    few = thumbs(19, 100)  # a share of 0.15 would be three of the liked
    assert split(KTO, few, 0.15).learnt == few
    assert split(KTO, thumbs(40, 100), 0.0).watched.liked == ()
    assert len(split(KTO, thumbs(27, 100), 0.15).watched.liked) == 4  # four tell something


def test_pairs_are_watched_with_both_sides_and_demonstrations_with_their_one() -> None:
    pairs = [
        (Pair(f"q{n}", "yes", "no", "comparison", None, None, 0.0, (), ()), ([n], [1], [2]))
        for n in range(40)
    ]
    watched = split(DPO, pairs, 0.25).watched
    assert [answer for _, answer in watched.liked] == [[1]] * 10
    assert [answer for _, answer in watched.disliked] == [[2]] * 10
    shown = [(Demonstration(f"q{n}", "yes"), ([n], [1])) for n in range(40)]
    assert len(split(SFT, shown, 0.25).watched.liked) == 10
    assert split(SFT, shown, 0.25).watched.disliked == ()


def test_no_more_are_watched_than_tell_something_new() -> None:
    assert len(split(KTO, thumbs(1000, 1000), 0.2).watched.liked) == MOST
