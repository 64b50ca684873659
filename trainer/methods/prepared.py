"""TRL's trainer as the loop uses it: on rows that are ready, a step in parts that fit the memory.

Owns that a step in parts gives the gradient of the whole step. Must not know: where rows come
from, what a part costs.
"""

from __future__ import annotations

import gc
import logging
from collections import deque
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from core.errors import Invalid
from trainer.methods.method import Recipe
from trainer.methods.parts import divide, lengths_of, take
from trainer.model.memory import is_out_of_memory
from trainer.model.threads import Threads

logger = logging.getLogger("attune.trainer")

TOO_LITTLE = (
    "Memory ran out in training, even for one example at a time. Lower ATTUNE_TRAIN_MAX_LENGTH "
    "(longer examples are left out) or ATTUNE_TRAIN_RANK, or give the trainer more memory."
)


@dataclass(slots=True)
class Layout:
    """How steps are done; it changes when memory runs out.

    `rows`: examples of a step. `kl_rows`: of them, those whose KL term is measured anew.
    """

    rows: int
    kl_rows: int
    tokens_at_once: int
    checkpointing: bool
    threads: Threads


def prepared(recipe: Recipe, layout: Layout) -> type[Any]:
    """The recipe's trainer, on rows that are tokenised, ordered and marked already."""

    class Prepared(recipe.trainer):  # type: ignore[name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._kl_seen: deque[float] = deque(maxlen=layout.rows)
            self._kl: float | None = None
            self._share = 1.0
            self._loss_weights = tuple(getattr(self, "loss_weights", ()))

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            """The step's loss; its gradient is added up over its parts.

            A step that memory is too little for is begun again in smaller parts.
            """
            if recipe.loss_is == "whole":
                layout.threads.adapt()
                return super().training_step(model, inputs, num_items_in_batch)
            while True:
                logged = {name: len(said) for name, said in self._metrics["train"].items()}
                tokens = int(self._total_train_tokens)  # type: ignore[has-type]
                try:
                    return self._in_parts(model, self._prepare_inputs(inputs), num_items_in_batch)
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                model.zero_grad(set_to_none=True)
                for name, said in self._metrics["train"].items():
                    del said[logged.get(name, 0) :]
                self._total_train_tokens = tokens
                shrink(layout, model, inputs)

        def _in_parts(self, model: Any, inputs: Any, items: Any) -> Any:
            if not layout.tokens_at_once:
                layout.threads.adapt()
                return super().training_step(model, inputs, items)
            measured = self._measure_kl(model, inputs)
            rest = {name: one for name, one in inputs.items() if not name.startswith("KL_")}
            if measured:
                rest["ref_KL_logps"] = torch.zeros_like(rest["ref_KL_logps"])
            lengths = lengths_of(inputs, layout.rows)
            sides = len(inputs["input_ids"]) // layout.rows
            logged = {name: len(said) for name, said in self._metrics["train"].items()}
            losses, parts = [], []
            for chosen in divide(lengths, layout.tokens_at_once // sides):
                layout.threads.adapt()
                part = take(rest, layout.rows, chosen)
                self._weigh(part, rest, len(chosen) / layout.rows)
                losses.append(super().training_step(model, part, items))
                parts.append(_counts(part, len(chosen)))
            settle(self._metrics["train"], logged, parts)
            self._kl_seen.extend(measured)
            return torch.stack(losses).sum()

        def _weigh(self, part: Any, whole: Any, share: float) -> None:
            """Let the parts' losses add up to the step's."""
            if recipe.loss_is == "mean of rows":
                self._share = share
            elif recipe.loss_is == "mean of pairs":
                chosen = [len(one["completion_mask"]) // 2 for one in (part, whole)]
                ours, all_of_it = (
                    float(one["completion_mask"][:half, 1:].sum())
                    for one, half in zip((part, whole), chosen, strict=True)
                )
                # "sft" is the mean over the tokens of chosen answers, the others over pairs.
                self.loss_weights = [
                    weight * (ours / max(1.0, all_of_it) if kind == "sft" else share)
                    for kind, weight in zip(self.loss_types, self._loss_weights, strict=True)
                ]

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            return loss if self._share == 1.0 else loss * self._share

        def _measure_kl(self, model: Any, inputs: Any) -> list[float]:
            """KTO's KL term of the step, before its parts need it; the rows it is the mean of."""
            if "KL_input_ids" not in inputs:
                return []
            rows = list(range(layout.kl_rows or layout.rows))
            own = {name: one for name, one in inputs.items() if name.startswith("KL_")}
            lengths = lengths_of(inputs, layout.rows, "KL_")
            measured: dict[int, float] = {}
            for places in divide([lengths[row] for row in rows], layout.tokens_at_once):
                layout.threads.adapt()
                chosen = [rows[place] for place in places]
                part = take(own, layout.rows, chosen)
                ratios = super()._compute_kl_logps(model, part) - inputs["ref_KL_logps"][chosen]
                measured |= zip(chosen, ratios.tolist(), strict=True)
            newest = [*self._kl_seen, *(measured[row] for row in rows)][-layout.rows :]
            self._kl = sum(newest) / len(newest)
            return [measured[row] for row in rows]

        def _compute_kl_logps(self, model: Any, batch: Any) -> Any:
            if self._kl is None:
                return super()._compute_kl_logps(model, batch)
            # TRL takes the mean of this minus the reference's, which is 0 here by now.
            return batch["ref_KL_logps"] + self._kl

    return Prepared


def _counts(part: Any, rows: int) -> Mapping[str, int]:
    """How many examples of a part a metric is the mean of, by the end of its name."""
    if "label" not in part:
        return {"rows": rows}
    ups = int(part["label"].sum())
    return {"rows": rows, "chosen": ups, "rejected": rows - ups}


def settle(
    metrics: MutableMapping[str, list[float]],
    logged: Mapping[str, int],
    parts: Sequence[Mapping[str, int]],
) -> None:
    """Make one figure of what a step's parts said since `logged`, as TRL has of a whole step."""
    if len(parts) == 1:
        return
    for name, said in metrics.items():
        before = logged.get(name, 0)
        kind = name.rpartition("/")[2]
        weights = [one.get(kind, one["rows"]) for one in parts]
        weights = [weight for weight in weights if weight]  # a part without any says nothing
        if len(weights) == len(said) - before:
            pairs = zip(said[before:], weights, strict=True)
            said[before:] = [sum(value * weight for value, weight in pairs) / sum(weights)]
    sides = [
        metrics.get(f"rewards/{kind}", [])[logged.get(f"rewards/{kind}", 0) :]
        for kind in ("chosen", "rejected")
    ]
    if "rewards/margins" in metrics:  # not the mean of the parts', of which some see one kind alone
        del metrics["rewards/margins"][logged.get("rewards/margins", 0) :]
    if all(sides):
        chosen, rejected = sides
        metrics["rewards/margins"].append(chosen[0] - rejected[0])
    for name in [name for name, said in metrics.items() if not said]:
        del metrics[name]  # TRL takes the mean of each


def shrink(layout: Layout, model: Any, inputs: Any) -> None:
    """Half as many tokens at once; or keep less for the way back. Raises Invalid at the end."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    longest = int(inputs["attention_mask"].sum(-1).max())
    sides = len(inputs["input_ids"]) // layout.rows
    if layout.tokens_at_once > longest * sides:
        most = longest * len(inputs["input_ids"])
        layout.tokens_at_once = max(longest * sides, min(layout.tokens_at_once, most) // 2)
        logger.warning("Memory ran out; going on with %d tokens at a time.", layout.tokens_at_once)
    elif not layout.checkpointing:
        layout.checkpointing = True
        keep_less(model)
        logger.warning("Memory ran out; going on with gradient checkpointing.")
    else:
        raise Invalid(TOO_LITTLE, param="max_length")


def keep_less(model: Any) -> None:
    """Compute what the way back needs a second time instead of keeping it."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
