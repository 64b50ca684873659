"""Whether a learned taste survives export: the same random draws, of the source and of the export.

Owns a small training with a simulated user, and sampling both sides with common random numbers:
token t of question q is the same quantile of either distribution, so that what differs between
the answers is the export and not the dice. Must not know how exports are made.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.settings import Settings
from deploy.demo.users import MAX_TOKENS, TEMPERATURE
from deploy.demo.world import Question, ask, facts_right, style_of
from feedback.types import Label
from trainer.methods import METHODS
from trainer.model.encoding import encode_prompt
from trainer.runs.plan import hyperparameters

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

TASTE = "pirate"
_UPS, _DOWNS = 16, 48


def learn_taste(model: WarmModel, out: Path) -> Path:
    """Train an adapter as `attune demo` does: thumbs of a user who likes one style."""
    from trainer.methods.loop import Training, train
    from trainer.model.sampling import answers

    rng = random.Random(0)
    questions = [ask(rng, "train") for _ in range(400)]
    prompts = [({"role": "user", "content": question.text},) for question in questions]
    given = answers(model, prompts, None, TEMPERATURE, MAX_TOKENS, seed=0)
    labels = [
        Label(prompt, answer.text, _liked(question, answer.text), None, None, 0.0, (), ())
        for prompt, question, answer in zip(prompts, questions, given, strict=True)
    ]
    ups = [label for label in labels if label.desirable][:_UPS]
    downs = [label for label in labels if not label.desirable][:_DOWNS]
    training = Training(
        method=METHODS["kto"],
        examples=[*ups, *downs],
        hyperparameters=hyperparameters(Settings(), model.parameters),
        out=out,
    )
    return train(model, training).path


def questions_of(count: int) -> list[Question]:
    """`count` held-out questions, the same every time."""
    rng = random.Random(1)
    return [ask(rng, "held_out") for _ in range(count)]


def draws(count: int) -> np.ndarray:
    """Uniform numbers (count, MAX_TOKENS), the same every time."""
    return np.random.default_rng(2).random((count, MAX_TOKENS))


def pick(logits: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Tokens (n,) at the quantiles `draw` (n,) of softmax(logits (n, vocabulary) / TEMPERATURE)."""
    scaled = logits.astype(np.float64) / TEMPERATURE
    weights = np.exp(scaled - scaled.max(-1, keepdims=True)).cumsum(-1)
    below = weights < (draw * weights[:, -1])[:, None]
    tokens: np.ndarray = below.sum(-1)
    return tokens


def source_answers(
    model: WarmModel, adapter: Path | None, questions: Sequence[Question], batch: int = 75
) -> list[str]:
    """What transformers and PEFT answer with these draws."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    class Drawn(LogitsProcessor):  # type: ignore[misc]
        """Leaves one token possible: the one at the draw's quantile."""

        def __init__(self, uniform: np.ndarray) -> None:
            self.uniform, self.step = uniform, 0

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            tokens = pick(scores.float().numpy(), self.uniform[:, self.step])
            self.step += 1
            only = torch.full_like(scores, -torch.inf)
            return only.scatter(1, torch.tensor(tokens)[:, None], 0.0)

    heads = [encode_prompt(model.tokenizer, _prompt(question)) for question in questions]
    uniform = draws(len(heads))
    tokenizer = model.tokenizer
    texts: list[str] = []
    with model.adapted(adapter) as adapted:
        for start in range(0, len(heads), batch):
            part = heads[start : start + batch]
            width = max(map(len, part))
            pads = [width - len(ids) for ids in part]
            rows = [
                [tokenizer.pad_token_id] * pad + ids for pad, ids in zip(pads, part, strict=True)
            ]
            output = adapted.generate(
                input_ids=torch.tensor(rows),
                attention_mask=torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads]),
                do_sample=False,
                temperature=None,
                max_new_tokens=MAX_TOKENS,
                pad_token_id=tokenizer.pad_token_id,
                logits_processor=LogitsProcessorList([Drawn(uniform[start : start + batch])]),
            )
            texts += tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
    return texts


def export_answers(
    step: Callable[[Sequence[int], Callable[[np.ndarray, int], int | None]], list[int]],
    model: WarmModel,
    questions: Sequence[Question],
) -> list[str]:
    """What an export answers with these draws. `step(prompt, choose)` generates: `choose` gets
    logits (vocabulary,) and the number of the token, and returns it, or None at the end."""
    uniform = draws(len(questions))
    end = int(model.tokenizer.eos_token_id)
    texts = []
    for question, row in zip(questions, uniform, strict=True):

        def choose(logits: np.ndarray, at: int, row: np.ndarray = row) -> int | None:
            if at == MAX_TOKENS:
                return None
            token = int(pick(logits[None], row[at : at + 1])[0])
            return None if token == end else token

        ids = step(encode_prompt(model.tokenizer, _prompt(question)), choose)
        texts.append(str(model.tokenizer.decode(ids, skip_special_tokens=True)))
    return texts


def judged(questions: Sequence[Question], texts: Sequence[str]) -> dict[str, float]:
    """Shares of the answers in the liked style, and with right facts."""
    count = len(questions)
    return {
        "preferred": sum(style_of(text) == TASTE for text in texts) / count,
        "facts": sum(facts_right(q, t) for q, t in zip(questions, texts, strict=True)) / count,
    }


def _liked(question: Question, text: str) -> bool:
    return style_of(text) == TASTE and facts_right(question, text)


def _prompt(question: Question) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": question.text},)
