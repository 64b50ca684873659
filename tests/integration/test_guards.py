"""Adapters that are broken in one way each, on the shipped model: the check of that name fails.

They are made by hand, one row of rank 1 at the head: along the mean hidden state, one token gets
more likely, or less, everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from deploy.demo.world.questions import held_out_questions
from feedback.types import Label
from trainer.judging.evaluate import evaluate
from trainer.judging.gate import judge
from trainer.judging.suite import SuiteItem, load_suite
from trainer.model.encoding import encode_prompt
from trainer.model.perplexity import costs, read
from trainer.model.sampling import answers
from trainer.model.warm import WarmModel
from trainer.types import Evaluation, GateLimits, Prompt

FOLDER = Path(__file__).parents[2] / "deploy" / "model"
PROMPTS: list[Prompt] = [
    ({"role": "user", "content": question.text},) for question in held_out_questions(24, seed=3)
]

# The head is tied; nothing here is merged or exported.
pytestmark = pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")

Broken = Callable[[str, float], Path]


@pytest.fixture(scope="module")
def shipped() -> WarmModel:
    return WarmModel(str(FOLDER), threads=1)


@pytest.fixture(scope="module")
def suite() -> tuple[SuiteItem, ...]:
    return load_suite(FOLDER / "regression.jsonl")[:16]


@pytest.fixture(scope="module")
def labels(shipped: WarmModel) -> list[Label]:
    """The base's own answers, every third one liked, for no reason."""
    asked = [encode_prompt(shipped.tokenizer, prompt) for prompt in PROMPTS]
    said = answers(shipped, asked, None, 1.0, 96, 9)
    return [
        Label(prompt, answer.text, at % 3 == 0, None, None, 0.0, (), ())
        for at, (prompt, answer) in enumerate(zip(PROMPTS, said, strict=True))
    ]


@pytest.fixture(scope="module")
def pushed(shipped: WarmModel, tmp_path_factory: pytest.TempPathFactory) -> Broken:
    """An adapter under which a token's logit is so much higher, about, wherever it may come."""

    def make(token: str, logits: float) -> Path:
        out = tmp_path_factory.mktemp("pushed")
        row = shipped.tokenizer.convert_tokens_to_ids(token)
        with shipped.borrow() as base:
            ids = torch.tensor([encode_prompt(shipped.tokenizer, PROMPTS[0])])
            with torch.no_grad():
                mean = base.model(input_ids=ids).last_hidden_state[0].mean(0)
            made = get_peft_model(base, LoraConfig(r=1, lora_alpha=1, target_modules=["lm_head"]))
            head: Any = made.base_model.model.lm_head
            with torch.no_grad():
                head.lora_A["default"].weight.copy_((mean / mean.dot(mean))[None])
                head.lora_B["default"].weight.zero_()
                head.lora_B["default"].weight[row] = logits
            made.save_pretrained(str(out), save_embedding_layers=False)
        return out

    return make


@pytest.fixture(scope="module")
def judged(
    shipped: WarmModel, labels: list[Label], suite: tuple[SuiteItem, ...]
) -> Callable[[Path], tuple[Evaluation, dict[str, bool]]]:
    def judged(candidate: Path) -> tuple[Evaluation, dict[str, bool]]:
        found = evaluate(
            shipped, candidate=candidate, live=None, labels=labels, pairs=(), suite=suite, seed=0
        )
        return found, {check.name: check.passed for check in judge(found, GateLimits()).checks}

    return judged


def test_an_adapter_that_does_nothing_has_no_fault(pushed: Broken, judged: Any) -> None:
    found, passed = judged(pushed("<|im_end|>", 0.0))
    assert passed.pop("preference margin") is False  # it learnt nothing
    assert "endless answers" in passed
    assert all(passed.values())
    assert found.faults.endless.candidate < 0.1
    assert len(found.samples) == 8
    assert all(before == after != "" for _, before, after in found.samples)
    assert found.neutral is None  # of text beyond its own small world it knows nothing


@pytest.mark.parametrize(
    ("token", "logits", "named"),
    [
        ("<|im_end|>", -60.0, "endless answers"),
        ("<|im_end|>", 60.0, "empty answers"),
        ("a", 60.0, "repetition"),
    ],
)
def test_what_is_broken_is_named(
    pushed: Broken, judged: Any, token: str, logits: float, named: str
) -> None:
    found, passed = judged(pushed(token, logits))
    assert passed[named] is False
    assert passed["distance from the base"] is False
    assert found.kl_to_base / found.answer_tokens > 0.2


def test_what_a_text_costs_grows_when_its_words_get_less_likely(
    shipped: WarmModel, pushed: Broken
) -> None:
    texts = read(shipped, ["The library opens at 09:30 on Monday.", "Where is the harbour?"])
    before = costs(shipped, texts, None)
    after = costs(
        shipped, texts, pushed(shipped.tokenizer.convert_ids_to_tokens(texts[0][3]), -9.0)
    )
    assert after[0] > before[0] + 3
    assert after[1] == pytest.approx(before[1], abs=1.0)
    with shipped.adapted(None) as base:
        logits = base(input_ids=torch.tensor([texts[1]])).logits[0].log_softmax(-1)
    one_by_one = -sum(float(logits[at, token]) for at, token in enumerate(texts[1][1:]))
    assert before[1] == pytest.approx(one_by_one, abs=1e-3)
