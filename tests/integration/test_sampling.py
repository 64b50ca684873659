"""How answers are drawn: from the distribution the model gives, alike for every way to be quick."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from trainer.model import asking, precision, sampling
from trainer.model.encoding import encode_prompt
from trainer.model.sampling import answers, generate
from trainer.model.scoring import logprobs, summed, taken

DRAWS = 1_500


@pytest.fixture
def heads(tiny_model, habits) -> list[list[int]]:
    return [list(encode_prompt(tiny_model.tokenizer, habits.ask(item))) for item in habits.items]


@pytest.fixture
def halved(monkeypatch) -> None:
    """As on a processor with bfloat16, with a model that is worth it."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(precision, "_WORTH_IT", 0)


def drawn(model: Any, prompts: list[list[int]], temperature: float, tokens: int) -> Any:
    with model.adapted(None) as base, torch.random.fork_rng([]):
        torch.manual_seed(0)
        return generate(model, base, prompts, temperature, tokens)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_drawn_as_often_as_the_model_says(tiny_model, heads, temperature) -> None:
    """Of 1,500 first tokens, each as often as its probability says, within five deviations."""
    said = Counter(ids[0] for ids in drawn(tiny_model, heads[:1] * DRAWS, temperature, 1))
    with tiny_model.adapted(None) as base:
        logits = base(input_ids=torch.tensor(heads[:1])).logits[0, -1]
    shares = (logits / temperature).softmax(-1)
    assert len(said) > 1
    for token, share in enumerate(shares.tolist()):
        deviation = (share * (1 - share) / DRAWS) ** 0.5
        assert said[token] / DRAWS == pytest.approx(share, abs=5 * deviation + 1e-9)


def test_an_answer_does_not_depend_on_the_ones_beside_it(tiny_model, heads) -> None:
    alone = drawn(tiny_model, heads[:1], 0.0, 20)
    assert drawn(tiny_model, heads, 0.0, 20)[:1] == alone
    longer = [heads[1] * 3, heads[0], heads[2]]
    assert drawn(tiny_model, longer, 0.0, 20)[1:2] == alone


def test_what_prompts_begin_with_alike_is_read_once(tiny_model, heads, monkeypatch) -> None:
    beginning = heads[0] * 2
    prompts = [beginning + head[: 2 + at % 5] for at, head in enumerate(heads)]
    widths: list[int] = []
    with tiny_model.adapted(None) as base:
        hook = base.register_forward_pre_hook(
            lambda _, args, given: widths.append(given["input_ids"].numel()), with_kwargs=True
        )
        quick = generate(tiny_model, base, prompts, 0.0, 12)
        hook.remove()
    assert widths[0] >= len(beginning)
    assert sum(widths[:2]) < len(beginning) + 8 * len(prompts)
    monkeypatch.setattr(sampling, "_WORTH_SHARING", 10_000)
    assert drawn(tiny_model, prompts, 0.0, 12) == quick


def test_the_same_prompt_in_all_rows_is_still_answered(tiny_model, heads) -> None:
    alone = drawn(tiny_model, heads[:1], 0.0, 12)
    assert drawn(tiny_model, heads[:1] * 3, 0.0, 12) == alone * 3


def test_the_copy_that_is_asked_says_the_same_within_bfloat16(
    tiny_model, habits, heads, halved
) -> None:
    with tiny_model.adapted(None, exact=True) as base:
        assert {weight.dtype for weight in base.parameters()} == {torch.float32}
        exact = generate(tiny_model, base, heads, 0.0, 12)
        items = list(zip(heads, exact, strict=True))
        scored = summed(tiny_model, base, items, taken)
    with tiny_model.adapted(None) as asked:
        assert {weight.dtype for weight in asked.parameters()} == {torch.bfloat16}
        assert asked.config._attn_implementation == asking._ATTENTION
        said = generate(tiny_model, asked, heads, 0.0, 12)
    # Which of its two openings it takes is a matter of chance; the number it knows is not.
    numbers = [habits.number(item) for item in habits.items]
    known, right = (
        sum(n in tiny_model.tokenizer.decode(ids) for n, ids in zip(numbers, some, strict=True))
        for some in (exact, said)
    )
    assert right == known > 0.8 * len(numbers)
    assert logprobs(tiny_model, items, None) == pytest.approx(scored, abs=0.3)
    with tiny_model.adapted(None, exact=True) as base:  # and it is left as it was
        assert base.config._attn_implementation == "sdpa"
        assert generate(tiny_model, base, heads, 0.0, 12) == exact


def test_the_copy_has_what_the_adapter_has_learnt_so_far(tiny_model, heads, halved) -> None:
    """Small changes of an adapter are not rounded away with the base's weights."""
    items = [(head, [5, 6, 7]) for head in heads]
    with tiny_model.borrow() as base:
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        policy = get_peft_model(base, config)

        def as_asked() -> list[float]:
            with tiny_model.as_asked(policy) as asked:
                return summed(tiny_model, asked, items, taken)

        with torch.no_grad():
            before = as_asked()
            for name, weight in policy.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.05)
            exact = summed(tiny_model, policy.eval(), items, taken)
            after = as_asked()
            moved = [new - old for new, old in zip(exact, before, strict=True)]
            seen = [new - old for new, old in zip(after, before, strict=True)]
        assert max(map(abs, moved)) > 0.5
        assert seen == pytest.approx(moved, abs=0.25)
        assert {w.dtype for w in policy.parameters() if w.requires_grad} == {torch.float32}


def test_without_room_for_a_copy_the_model_itself_is_asked(tiny_model, halved, monkeypatch) -> None:
    monkeypatch.setattr(tiny_model, "free_bytes", lambda: 1_000)
    with tiny_model.adapted(None) as asked, tiny_model.adapted(None, exact=True) as base:
        assert asked is base


def test_more_tokens_than_fit_at_once_are_drawn_in_batches(tiny_model, heads, monkeypatch) -> None:
    whole = answers(tiny_model, heads, None, 0.0, 12, 41)
    monkeypatch.setattr(sampling, "_TOKENS_AT_ONCE", 100)
    assert answers(tiny_model, heads, None, 0.0, 12, 42) == whole
