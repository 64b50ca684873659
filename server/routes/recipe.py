"""An adapter's recipe as it is sent: which figures there are, their bounds and meanings.

Owns the body and what of it this server's base model refuses. It is a part of `learning`, sent and
shown by the routes in `adapters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from adapters.recipe import MOST_RATES, Recipe
from core.bodies import Body, says
from core.errors import Invalid
from core.settings import Settings

_Rate = Annotated[float, Field(gt=0, le=1)]
_Module = Annotated[str, Field(min_length=1, max_length=64)]


class RecipeBody(Body):
    """Figures of an adapter's trainings; null leaves one to the trainer."""

    learning_rate: Annotated[
        _Rate | Annotated[list[_Rate], Field(min_length=1, max_length=MOST_RATES)] | None,
        says(f"learning_rate is a number over 0 and at most 1, or a list of 1 to {MOST_RATES}."),
    ] = Field(None, description="Peak learning rate; of a list each is tried.")
    beta: float | None = Field(
        None, gt=0, le=100, description="How hard KTO and DPO hold on to the base."
    )
    sft_weight: float | None = Field(
        None, ge=0, le=10, description="Weight in DPO's loss of the chosen answer's likelihood."
    )
    max_steps: int | None = Field(
        None, ge=1, le=10_000, description="Most optimizer steps; evidence may stop it earlier."
    )
    batch_size: int | None = Field(None, ge=2, le=1024, description="Answers per optimizer step.")
    max_length: int | None = Field(
        None, ge=16, le=2**20, description="Longer examples (tokens, with prompt) are left out."
    )
    rank: int | None = Field(None, ge=1, le=1024, description="LoRA rank of a fresh start.")
    alpha: int | None = Field(
        None, ge=1, le=4096, description="LoRA alpha; the update is scaled by alpha / rank."
    )
    target_modules: list[_Module] | None = Field(
        None, min_length=1, max_length=32, description="Linear layers that are trained, by name."
    )
    kl_budget: float | None = Field(
        None, gt=0, le=1000, description="It stops at this KL to the base, nats per answer,"
    )
    kl_token_budget: float | None = Field(
        None, ge=0, le=100, description="and so many nats more for each token of the answer."
    )
    holdout: float | None = Field(
        None, ge=0, le=0.5, description="Share of the prompts trained on that is watched instead."
    )
    patience: int | None = Field(
        None, ge=1, le=1000, description="It stops after this many looks without a better margin."
    )
    load_in_4bit: bool | None = Field(None, description="Train on the base in 4 bits (QLoRA).")

    def on(self, before: Recipe) -> Recipe:
        """`before` with the fields that were sent. Raises Invalid for a rate or layer twice."""
        sent = self.model_dump(exclude_unset=True)
        for name, value in sent.items():
            if isinstance(value, list):
                if len(set(value)) < len(value):
                    raise Invalid(f"{name} names one twice.", param=_param(name))
                sent[name] = tuple(value)
        return replace(before, **sent)


def require_possible(
    recipe: Recipe, settings: Settings, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises Invalid for what this server's limits or its base model rule out.

    `shapes`: the base model's weight matrices by module name.
    """
    limits: dict[str, tuple[Any, int, str]] = {
        "rank": (recipe.rank, settings.max_lora_rank, "ATTUNE_MAX_LORA_RANK"),
        "max_length": (recipe.max_length, settings.train_max_length, "ATTUNE_TRAIN_MAX_LENGTH"),
    }
    for name, (value, most, setting) in limits.items():
        if value is not None and value > most:
            raise Invalid(f"{name} is at most {most} here ({setting}).", param=_param(name))
    present = {name.rpartition(".")[2] for name in shapes} - {"lm_head", "embed_tokens"}
    unknown = sorted(set(recipe.target_modules or ()) - present)
    if unknown:
        raise Invalid(
            f"The base model has no layer {', '.join(unknown)[:200]} that is trained here; it has "
            f"{', '.join(sorted(present))[:1000]}.",
            param=_param("target_modules"),
        )


def _param(name: str) -> str:
    return f"learning.recipe.{name}"
