"""What a tenant may say of how an adapter is trained: known figures, within bounds."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.recipe import Recipe
from adapters.types import Learning
from core.bodies import invalid
from core.errors import Invalid
from core.settings import Settings
from server.routes.adapters import LearningBody
from server.routes.recipe import RecipeBody, require_possible

SHAPES = {
    "model.layers.0.self_attn.q_proj": (6, 4),
    "model.layers.0.mlp.up_proj": (6, 4),
    "model.embed_tokens": (9, 4),
    "lm_head": (9, 4),
}


def refusal(sent: Any) -> Invalid:
    """What is said of it by the time it is put on an adapter."""
    with pytest.raises((ValidationError, Invalid)) as caught:
        LearningBody.model_validate({"recipe": sent}).on(Learning())
    error = caught.value
    return error if isinstance(error, Invalid) else invalid(error.errors())


def test_the_body_has_a_field_for_every_figure_of_a_recipe() -> None:
    assert list(RecipeBody.model_fields) == [field.name for field in fields(Recipe)]


def test_figures_left_out_stay_null_leaves_one_open_and_a_null_recipe_all() -> None:
    before = Learning(recipe=Recipe(beta=0.5, max_steps=9, learning_rate=(1e-4, 3e-4)), new_items=5)
    sent = LearningBody.model_validate({"recipe": {"beta": None, "rank": 8}})
    after = sent.on(before)
    assert after.recipe == Recipe(max_steps=9, learning_rate=(1e-4, 3e-4), rank=8)
    assert after.new_items == 5
    assert LearningBody.model_validate({"recipe": None}).on(before).recipe == Recipe()
    assert LearningBody.model_validate({"new_items": 6}).on(before).recipe == before.recipe


@pytest.mark.parametrize(
    ("sent", "rates"), [(1e-4, (1e-4,)), ([1e-4, 3e-4], (1e-4, 3e-4)), (1, (1.0,)), (None, ())]
)
def test_a_learning_rate_is_one_or_a_list_of_them(sent: Any, rates: tuple[float, ...]) -> None:
    recipe = RecipeBody.model_validate({"learning_rate": sent}).on(Recipe())
    assert recipe.learning_rates == rates


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("learning_rate", (0, -1e-4, 1.1, True, "auto", "1e-4", [], [1e-4] * 2, [0.0], [None], {})),
        ("learning_rate", ([1e-5, 2e-5, 3e-5, 4e-5, 5e-5], [[1e-4]], [1e-4, "x"])),
        ("beta", (0, -1, 101, True, "1", [0.1])),
        ("sft_weight", (-0.1, 11, True)),
        ("max_steps", (0, 10_001, 1.5, True, "40")),
        ("batch_size", (1, 1025, 8.0, True)),
        ("max_length", (15, 2**20 + 1, True)),
        ("rank", (0, 1025, 1.5, True)),
        ("alpha", (0, 4097, True)),
        ("target_modules", ([], "q_proj", ["q_proj", "q_proj"], [""], [1], ["q" * 65])),
        ("kl_budget", (0, -1, 1001, True)),
        ("kl_token_budget", (-0.1, 101, True)),
        ("holdout", (-0.1, 0.6, 1, True)),
        ("patience", (0, 1001, True)),
        ("load_in_4bit", (1, 0, "true", [True])),
    ],
)
def test_what_is_out_of_bounds_or_no_number_is_refused_by_name(
    field: str, values: tuple[Any, ...]
) -> None:
    for value in values:
        param = refusal({field: value}).param or ""
        assert param.removeprefix("learning.").startswith(f"recipe.{field}"), value


def test_an_unknown_figure_is_named_with_the_nearest_one() -> None:
    refused = refusal({"learningrate": 1e-4})
    assert "did you mean 'learning_rate'?" in refused.message
    for sent in ([], "fast", 1, True):
        assert refusal(sent).param == "recipe"


def test_a_rank_and_a_length_over_the_servers_are_refused_with_the_setting() -> None:
    settings = Settings(max_lora_rank=8, train_max_length=256)
    require_possible(Recipe(rank=8, max_length=256), settings, SHAPES)
    for recipe, setting in (
        (Recipe(rank=9), "ATTUNE_MAX_LORA_RANK"),
        (Recipe(max_length=257), "ATTUNE_TRAIN_MAX_LENGTH"),
    ):
        with pytest.raises(Invalid, match=setting):
            require_possible(recipe, settings, SHAPES)


@pytest.mark.parametrize("module", ["v_proj", "lm_head", "embed_tokens", "model", "Q_PROJ"])
def test_a_layer_that_is_not_trained_here_is_refused_with_those_that_are(module: str) -> None:
    require_possible(Recipe(target_modules=("q_proj", "up_proj")), Settings(), SHAPES)
    with pytest.raises(Invalid, match=r"it has q_proj, up_proj\.") as caught:
        require_possible(Recipe(target_modules=("q_proj", module)), Settings(), SHAPES)
    assert caught.value.param == "learning.recipe.target_modules"
