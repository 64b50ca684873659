"""Watching a training: how far it is from the base, whether it still gets better, when to stop.

Owns how a look is taken and the weights of the best one. Must not know: the rule (`evidence`), TRL.

The KL is that of the policy's own answers, as the gate measures it: the base's or the liked answers
cannot show where a policy goes that has begun to say something else.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import TrainerCallback

from trainer.methods.evidence import Finding, Look, look_steps, weigh
from trainer.methods.method import Answered, Encoded, Judged
from trainer.model.sampling import generate
from trainer.model.scoring import divergence, summed, taken
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters

LOOKS = 8
"""Looks of a whole training."""
OPEN_PROMPTS = 16
"""Prompts that are answered at each look."""
ANSWER_TOKENS = 64


def evidence_of(
    model: WarmModel,
    policy: Any,
    hyperparameters: Hyperparameters,
    examples: Encoded[Any],
    watched: Judged,
    report: Callable[[Look], None],
) -> Evidence | None:
    """What watches a training that has a budget; prompts that are `watched` are asked first."""
    if hyperparameters.kl_budget is None:
        return None
    apart = [prompt for prompt, _ in (*watched.liked, *watched.disliked)]
    prompts = dict.fromkeys(map(tuple, [*apart, *(tokens[0] for _, tokens in examples)]))
    lengths = [min(len(said), ANSWER_TOKENS) for _, (_, *answers) in examples for said in answers]
    usual = statistics.fmean(lengths)
    return Evidence(model, policy, hyperparameters, [*prompts], watched, report, usual)


class Evidence(TrainerCallback):
    """Looks at the policy in training, stops it, and gives it back its best weights.

    `prompts` are answered for the KL, `watched` is what the margin is of. The same training looks
    alike, and draws what it would have drawn without. `report` is told each look. The budget is
    of answers as long as the policy's, or as the `usual_tokens` of those that were judged.
    """

    def __init__(
        self,
        model: WarmModel,
        policy: Any,
        hyperparameters: Hyperparameters,
        prompts: Sequence[Sequence[int]],
        watched: Judged,
        report: Callable[[Look], None],
        usual_tokens: float,
    ) -> None:
        assert hyperparameters.kl_budget is not None  # who gives none is not watched
        self._model, self._policy = model, policy
        self._weigh = partial(
            weigh,
            kl_budget=hyperparameters.kl_budget,
            kl_token_budget=hyperparameters.kl_token_budget,
            patience=hyperparameters.patience,
        )
        self._seed = hyperparameters.seed
        self._at = look_steps(hyperparameters.steps, LOOKS)
        self._prompts = [list(prompt) for prompt in prompts[:OPEN_PROMPTS]]
        self._watched, self._report = watched, report
        self._usual_tokens = usual_tokens
        self._before: list[float] = []
        self._best: dict[str, Any] = {}
        self.looks: list[Look] = []

    @property
    def finding(self) -> Finding | None:
        """What the looks so far say; None before the first."""
        return self._weigh(self.looks) if self.looks else None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Score the watched answers under the base."""
        with self._looking() as asked, asked.disable_adapter():
            self._before = self._logprobs(asked)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look, keep the weights if they are the best so far, and stop if there is a reason."""
        if state.global_step not in self._at:
            return
        look = self._look(state.global_step)
        self.looks.append(look)
        self._report(look)
        found = self._weigh(self.looks)
        if found.best is look:
            self._best = {name: weight.detach().clone() for name, weight in self._trained()}
        control.should_training_stop = control.should_training_stop or found.stop is not None

    def restore(self) -> None:
        """Give the policy the weights of the best look."""
        with torch.no_grad():
            for name, weight in self._trained():
                if name in self._best:
                    weight.copy_(self._best[name])

    def _look(self, step: int) -> Look:
        with self._looking() as asked:
            said = generate(self._model, asked, self._prompts, 1.0, ANSWER_TOKENS)
            answers = list(zip(self._prompts, said, strict=True))
            kl = statistics.fmean(summed(self._model, asked, answers, divergence))
            tokens = max(statistics.fmean(map(len, said)), self._usual_tokens)
            return Look(step, kl, self._margin(asked), tokens)

    def _margin(self, asked: Any) -> float | None:
        logprobs = self._logprobs(asked)
        shifts = [after - before for after, before in zip(logprobs, self._before, strict=True)]
        if not shifts:
            return None
        count = len(self._watched.liked)
        return _mean(shifts[:count]) - _mean(shifts[count:])

    def _logprobs(self, asked: Any) -> list[float]:
        rows: list[Answered] = [*self._watched.liked, *self._watched.disliked]
        return summed(self._model, asked, rows, taken)

    @contextmanager
    def _looking(self) -> Iterator[Any]:
        """The policy as it is asked, without gradients, with dice of its own."""
        cuda = [self._model.device] if self._model.device.type == "cuda" else []
        training = self._policy.training
        with torch.no_grad(), torch.random.fork_rng(cuda):
            torch.manual_seed(self._seed)
            self._policy.eval()
            try:
                with self._model.as_asked(self._policy) as asked:
                    yield asked
            finally:
                self._policy.train(training)

    def _trained(self) -> Iterator[tuple[str, Any]]:
        weights = self._policy.named_parameters()
        return ((name, weight) for name, weight in weights if weight.requires_grad)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
