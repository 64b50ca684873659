"""When an export counts as equal, and how answers of two models are drawn with the same dice."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from core.settings import SHIPPED_MODEL
from deploy.bench.edge import table as edge_table
from deploy.bench.taste import pick
from deploy.edge.manifest import Precision, Verification
from deploy.export.graph import graph_module, lora_nodes
from deploy.export.prompts import ENOUGH, enough_prompts, shipped_prompts
from deploy.export.request import ORDERS, AdapterVersion, ExportJob, Order
from deploy.export.verify import LIMITS, failures

EQUAL = Verification(
    prompts=50,
    prompt_source="shipped",
    tokens=1000,
    argmax_agreement=1.0,
    top5_overlap=1.0,
    perplexity_source=1.5,
    perplexity_export=1.5,
    perplexity_difference=0.0,
    greedy_equal=1.0,
    max_logit_difference=1e-5,
    thresholds={},
    passed=False,
)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_an_equal_export_passes_at_every_precision(precision: Precision) -> None:
    assert failures(replace(EQUAL, thresholds=LIMITS[precision])) == []


def test_a_figure_on_its_limit_passes_and_one_beyond_is_named() -> None:
    limits = {
        "argmax_agreement": 0.97, "top5_overlap": 0.95, "perplexity_difference": 0.02,
        "greedy_equal": 0.98, "max_logit_difference": 0.05,
    }  # fmt: skip
    on = replace(EQUAL, **{**limits, "perplexity_difference": -0.02}, thresholds=limits)
    assert failures(on) == []
    beyond = replace(on, argmax_agreement=0.96, perplexity_difference=-0.03)
    assert failures(beyond) == [
        "argmax_agreement 0.96 (at least 0.97)",
        "perplexity_difference -0.03 (at most 0.02)",
    ]


@pytest.mark.parametrize("name", ["argmax_agreement", "perplexity_difference"])
def test_what_is_no_number_never_passes(name: str) -> None:
    assert failures(replace(EQUAL, **{name: math.nan}, thresholds=LIMITS["int4"]))


def test_a_limit_that_is_not_set_is_not_asked_for_nor_shown() -> None:
    free = LIMITS["int8"]
    unequal = replace(EQUAL, greedy_equal=0.0, max_logit_difference=9.0, thresholds=free)
    assert failures(unequal) == []
    assert set(free) == {"argmax_agreement", "top5_overlap", "perplexity_difference"}


def test_the_stricter_precision_has_the_stricter_limits() -> None:
    fp32, int8, int4 = (LIMITS[p]["argmax_agreement"] for p in ("fp32", "int8", "int4"))
    assert fp32 > int8 >= 0.97
    assert int8 > int4 >= 0.95


def test_a_tenants_own_prompts_are_used_and_filled_up_where_they_are_few(tmp_path: Path) -> None:
    own = tuple(({"role": "user", "content": f"question {n}"},) for n in range(ENOUGH))
    assert enough_prompts(own, tmp_path) == (own, "tenant")
    some, source = enough_prompts(own[:3], tmp_path)
    assert (len(some), some[:3], source) == (ENOUGH, own[:3], "tenant+shipped")
    assert enough_prompts((), tmp_path) == (shipped_prompts(tmp_path), "shipped")


def test_any_model_has_shipped_prompts_enough_and_they_stay_the_same(tmp_path: Path) -> None:
    prompts = shipped_prompts(tmp_path)
    assert len({str(prompt) for prompt in prompts}) == len(prompts) == ENOUGH
    assert prompts == shipped_prompts(tmp_path)


def test_a_models_own_regression_questions_come_before_everyday_ones(tmp_path: Path) -> None:
    item = {"prompt": "Where is the otter?", "must_contain": ["river"]}
    (tmp_path / "regression.jsonl").write_text(json.dumps(item))
    own, first, *_ = shipped_prompts(tmp_path)
    assert own == ({"role": "user", "content": "Where is the otter?"},)
    assert first == (
        {"role": "user", "content": "Explain in two sentences how a bicycle stays upright."},
    )
    shipped = shipped_prompts(SHIPPED_MODEL)
    assert len(shipped) == ENOUGH
    assert "wagon" in shipped[0][0]["content"]


def test_the_graph_spells_modules_in_its_own_way() -> None:
    module = "model.layers.11.self_attn.q_proj"
    assert graph_module(module) == "model.layers.11.attn.q_proj"
    assert lora_nodes([module]) == [
        "/model/layers.11/attn/q_proj/lora_A/MatMul",
        "/model/layers.11/attn/q_proj/lora_B/MatMul",
    ]


def test_a_draw_picks_the_token_at_its_quantile() -> None:
    """At temperature 0.7, logits 0.7 · ln(p) give p = 0.2, 0.5, 0.3: bounds at 0.2 and 0.7."""
    logits = 0.7 * np.log(np.array([[0.2, 0.5, 0.3]] * 4))
    assert pick(logits, np.array([0.1, 0.21, 0.69, 0.71])).tolist() == [0, 1, 1, 2]


def test_the_table_has_a_column_for_every_export_and_leaves_out_what_it_has_not() -> None:
    found = {
        "size_bytes": 3_000_000, "load_ms": 17.0, "first_token_ms": 8.0, "tokens_per_s": 1800.0,
        "ratio": 12.0, "switch_ms": None, "transformers_tokens_per_s": 150.0,
        "transformers_first_token_ms": 16.0,
        "verification": {"argmax_agreement": 0.99, "greedy_equal": 0.6},
        "taste": {"preferred_points": 0.0, "facts_points": -0.3},
    }  # fmt: skip
    adapted = found | {"adapter_bytes": 1_250_000, "switch_ms": 0.004}
    shares = {"preferred": 0.95, "facts": 0.99}
    table = edge_table(
        {"exports": {"merged int4": found, "base+adapters int4": adapted}, "served": shares,
         "base": shares, "questions": 300, "prompt_tokens": 64, "new_tokens": 128, "threads": 1}
    )  # fmt: skip
    assert [str(column.header) for column in table.columns] == ["", "merged\nint4", "base+\nint4"]
    cells = {row[0]: row[1:] for row in zip(*(c.cells for c in table.columns), strict=True)}
    assert cells["adapter file, MB"] == ("", "1.25")
    assert cells["switch, ms"] == ("", "0.004")
    assert cells["x transformers"] == ("12.0", "12.0")


def test_an_order_reaches_the_process_that_carries_it_out_as_it_was_given() -> None:
    job = ExportJob(
        model=Path("/models/town"),
        model_name="base",
        layout="base+adapters",
        precision="int4",
        adapter=AdapterVersion(Path("/adapters/1"), "support", 3, "a" * 64),
        prompts=(({"role": "user", "content": "Where? é"},),),
    )
    order = Order(job, Path("/out"), Path("/base"))
    assert ORDERS.validate_json(ORDERS.dump_json(order)) == order
