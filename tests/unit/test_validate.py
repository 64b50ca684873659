"""The door to the engine: what a stranger's adapter folder may be, attacked from every side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapters.artifacts.digest import adapter_digest
from adapters.validate import BaseModel, read_base, validate_adapter
from core.errors import AttuneError, Invalid, NotFound

Q = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.0.mlp.down_proj"
BASE = BaseModel("tiny", {Q: (6, 4), DOWN: (4, 8), "model.embed_tokens": (10, 4)})
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "down_proj"],
    "bias": "none",
}


def lora(module: str = Q, rank: int = 2, shape: tuple[int, int] = (6, 4)) -> dict[str, Any]:
    """A and B of one module; `shape` is (out, in)."""
    stem = f"base_model.model.{module}"
    return {
        f"{stem}.lora_A.weight": np.ones((rank, shape[1]), np.float32),
        f"{stem}.lora_B.weight": np.zeros((shape[0], rank), np.float32),
    }


def folder(
    path: Path, config: Any = None, tensors: dict[str, Any] | None = None, **changed: Any
) -> Path:
    """An adapter folder; `config` as text, or CONFIG with some fields changed."""
    text = config if isinstance(config, str) else json.dumps({**CONFIG, **changed})
    (path / "adapter_config.json").write_text(text, "utf-8")
    save_file(lora() if tensors is None else tensors, path / "adapter_model.safetensors")
    return path


def refuse(path: Path, *, max_rank: int = 16, match: str | None = None) -> AttuneError:
    with pytest.raises((Invalid, NotFound), match=match) as refused:
        validate_adapter(path, BASE, max_rank=max_rank)
    assert len(refused.value.message) < 1000  # a stranger's text is quoted only in part
    return refused.value


def test_a_plain_adapter_passes_and_is_described(tmp_path: Path) -> None:
    tensors = {**lora(), **lora(DOWN, shape=(4, 8))}
    info = validate_adapter(folder(tmp_path, tensors=tensors), BASE, max_rank=2)
    assert (info.rank, info.target_modules) == (2, ("down_proj", "q_proj"))
    assert info.size_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert info.digest == adapter_digest(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"init_lora_weights": True}, {"init_lora_weights": "gaussian"}, {"use_rslora": True},
        {"modules_to_save": None}, {"target_modules": "all-linear"}, {"lora_alpha": 0.5},
        {"rank_pattern": {}, "alpha_pattern": {"q_proj": 8}},
    ],
)  # fmt: skip
def test_what_peft_writes_for_plain_loras_passes(tmp_path: Path, changed: dict[str, Any]) -> None:
    validate_adapter(folder(tmp_path, **changed), BASE, max_rank=16)


def test_an_embedding_is_checked_against_its_transposed_weight(tmp_path: Path) -> None:
    stem = "base_model.model.model.embed_tokens"
    good = {
        f"{stem}.lora_embedding_A": np.ones((2, 10), np.float32),
        f"{stem}.lora_embedding_B": np.ones((4, 2), np.float32),
    }
    validate_adapter(folder(tmp_path, tensors=good), BASE, max_rank=16)
    bad = {**good, f"{stem}.lora_embedding_A": np.ones((2, 4), np.float32)}
    refuse(folder(tmp_path, tensors=bad), match="another base")


@pytest.mark.parametrize(
    "tensors",
    [
        {
            "model.embed_tokens.lora_A.weight": np.ones((2, 4), np.float32),
            "model.embed_tokens.lora_B.weight": np.ones((10, 2), np.float32),
        },
        {
            f"{Q}.lora_embedding_A": np.ones((2, 6), np.float32),
            f"{Q}.lora_embedding_B": np.ones((4, 2), np.float32),
        },
    ],
)
def test_an_embedding_is_spelt_as_one_and_nothing_else_is(
    tmp_path: Path, tensors: dict[str, Any]
) -> None:
    """Their shapes fit, and vLLM dies of the first inside a step."""
    named = {f"base_model.model.{name}": value for name, value in tensors.items()}
    refuse(folder(tmp_path, tensors=named), match="as PEFT writes them")


def test_a_tied_head_is_checked_against_the_embedding(tmp_path: Path) -> None:
    good = lora("lm_head", shape=(10, 4))
    assert validate_adapter(folder(tmp_path, tensors=good), BASE, max_rank=2).rank == 2
    refuse(folder(tmp_path, tensors=lora("lm_head", shape=(9, 4))), match="another base")


def test_names_joined_in_one_key_count_for_each(tmp_path: Path) -> None:
    tensors = {**lora(), **lora(DOWN, rank=5, shape=(4, 8))}
    made = folder(tmp_path, tensors=tensors, rank_pattern={f"{DOWN}|x.y": 5})
    assert validate_adapter(made, BASE, max_rank=5).rank == 5
    refuse(folder(tmp_path, tensors=tensors, rank_pattern={"x.y": 5}), match="says 2")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("how", ["missing", "symlink", "folder"])
def test_both_files_must_be_there_as_plain_files(tmp_path: Path, name: str, how: str) -> None:
    real = tmp_path / "real"
    real.mkdir()
    path = folder(real) / name
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    if how == "symlink":
        path.symlink_to(moved)
    elif how == "folder":
        path.mkdir()
    assert isinstance(refuse(real), NotFound)


def test_pickled_weights_beside_or_instead_are_not_weights(tmp_path: Path) -> None:
    weights = folder(tmp_path) / "adapter_model.safetensors"
    weights.rename(tmp_path / "adapter_model.bin")
    assert isinstance(refuse(tmp_path), NotFound)
    weights.write_bytes(b"\x80\x04\x95" + b"\0" * 100)
    refuse(tmp_path, match="safetensors")


@pytest.mark.parametrize("keep", [0, 7, 8, 40, -1])
def test_a_cut_off_file_is_refused(tmp_path: Path, keep: int) -> None:
    weights = folder(tmp_path) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    refuse(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "3", '"LORA"', "{", "\x00", "[" * 200_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000, '{"r": ' + "9" * 5000 + "}",
        json.dumps({**CONFIG, "x": 1})[:-1] + ', "r": 2, "r": 99}',
    ],
)  # fmt: skip
def test_a_config_that_is_not_one_plain_object_is_refused(tmp_path: Path, text: str) -> None:
    refuse(folder(tmp_path, config=text))


def test_a_config_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (folder(tmp_path) / "adapter_config.json").write_bytes(b"\xff\xfe{}")
    refuse(tmp_path)


@pytest.mark.parametrize("field", ["peft_type", "r", "lora_alpha", "target_modules"])
def test_every_field_the_engine_needs_must_be_there(tmp_path: Path, field: str) -> None:
    refuse(folder(tmp_path, config=json.dumps({k: v for k, v in CONFIG.items() if k != field})))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "changed",
    [
        *({"peft_type": v} for v in ("IA3", "lora", None, ["LORA"], {})),
        *({"r": v} for v in (0, -2, 2.5, 2.0, NAN, INF, "2", None, [2], {}, True, 10**400)),
        *({"lora_alpha": v} for v in (0, -1, NAN, INF, "4", None, [], True, 10**400, 1e300)),
        *({"rank_pattern": v} for v in (
            {"q_proj": "2"}, {"q_proj": None}, {"q_proj": NAN}, {"q_proj": [2]}, {"x": INF},
            {"q_proj": 2.0}, {"q_proj": True}, {"q_proj": 0}, {"x": 17}, {"": 2}, {"(a+)+": 2},
            "q_proj", 7,
        )),
        *({"alpha_pattern": v} for v in (
            {"q_proj": NAN}, {"q_proj": INF}, {"q_proj": "8"}, {"q_proj": None}, {"q_proj": -1},
            {"q_proj": [1]}, {".*": 1}, "q_proj", ["q_proj"],
        )),
        *({"target_modules": v} for v in (None, 5, [5], {"q": 1}, [["q_proj"]], True, [None])),
        *({"bias": v} for v in ("all", "lora_only", None, True)),
        *({feature: True} for feature in (
            "use_dora", "lora_bias", "use_qalora", "layer_replication", "use_bdlora",
        )),
        {"modules_to_save": ["lm_head"]}, {"modules_to_save": ["score"]},
        {"alora_invocation_tokens": [1]}, {"target_parameters": ["x"]},
        {"trainable_token_indices": [1]},
        *({"init_lora_weights": v} for v in ("pissa", "PiSSA_niter_4", "olora", "loftq")),
        {"init_lora_weights": "x" * 9999},
        {"r": 17}, {"peft_type": "x" * 9999},
    ],
)  # fmt: skip
def test_no_value_of_the_config_gets_past_or_breaks_the_check(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    refuse(folder(tmp_path, **changed))


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({}, "no LoRA weights"),
        ({"w": np.ones(2, np.float32)}, "Unexpected tensor"),
        ({**lora(), "base_model.model.lm_head.weight": np.ones(1, np.float32)}, "Unexpected"),
        ({**lora(), f"base_model.model.{Q}.lora_magnitude_vector": np.ones(6)}, "Unexpected"),
        ({**lora(), f"base_model.model.{Q}.lora_B.bias": np.ones(6)}, "Unexpected"),
        ({f"base_model.model.{Q}.lora_A.weight": np.ones((2, 4), np.float32)}, "one matrix A"),
        (lora("model.layers.0.self_attn.x_proj"), "does not have"),
        (lora("model.layers.1.self_attn.q_proj"), "does not have"),
        (lora("../../etc/passwd"), "does not have"),
        (lora("m" * 5000), "does not have"),
        (lora("model.layers.0.self_attn.q_proj.lora_A"), "does not have"),
        (lora(shape=(4, 6)), "another base"),
        (lora(shape=(6, 5)), "another base"),
        (lora(rank=3), "adapter_config.json says 2"),
        (lora(rank=0), "ranks do not agree"),
    ],
)
def test_tensors_must_be_pairs_that_fit_the_base(
    tmp_path: Path, tensors: dict[str, Any], match: str
) -> None:
    refuse(folder(tmp_path, tensors=tensors), match=match)


@pytest.mark.parametrize(
    "name", ["lora_A.default.weight", "lora_A", "lora_A.default", "lora_embedding_A.weight"]
)
def test_names_the_engine_cannot_read_are_refused(tmp_path: Path, name: str) -> None:
    """vLLM reads `…lora_A.weight` and `…lora_embedding_A` and nothing else."""
    stem = f"base_model.model.{Q}"
    tensors = {
        f"{stem}.{name}": np.ones((2, 4), np.float32),
        f"{stem}.{name.replace('_A', '_B')}": np.ones((6, 2), np.float32),
    }
    refuse(folder(tmp_path, tensors=tensors))


def test_one_module_cannot_be_given_twice_under_two_spellings(tmp_path: Path) -> None:
    extra = {f"base_model.model.{Q}.lora_A.default.weight": np.ones((99, 99), np.float32)}
    refuse(folder(tmp_path, tensors={**extra, **lora()}))
    refuse(folder(tmp_path, tensors={**lora(), **extra}))


def test_a_and_b_must_agree_on_the_rank(tmp_path: Path) -> None:
    tensors = {**lora(), f"base_model.model.{Q}.lora_B.weight": np.ones((6, 3), np.float32)}
    refuse(folder(tmp_path, tensors=tensors), match="do not agree")


@pytest.mark.parametrize("shape", [(2, 4, 1), (8,), ()])
def test_a_matrix_has_two_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tensors = {**lora(), f"base_model.model.{Q}.lora_A.weight": np.ones(shape, np.float32)}
    refuse(folder(tmp_path, tensors=tensors), match="one matrix A")


def test_the_rank_limit_counts_the_largest_module(tmp_path: Path) -> None:
    tensors = {**lora(), **lora(DOWN, rank=9, shape=(4, 8))}
    made = folder(tmp_path, tensors=tensors, rank_pattern={"mlp.down_proj": 9})
    assert validate_adapter(made, BASE, max_rank=9).rank == 9
    refuse(made, max_rank=8, match="rank 9")


def test_a_rank_that_no_module_has_still_counts_for_the_engines_limit(tmp_path: Path) -> None:
    """vLLM compares `r` and every entry of `rank_pattern` with its limit, used or not."""
    refuse(folder(tmp_path, rank_pattern={"never": 64}), match="rank 64")
    refuse(folder(tmp_path, r=64, rank_pattern={"q_proj": 2}), match="rank 64")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_diverged_adapter_is_refused(tmp_path: Path, value: float, dtype: Any) -> None:
    tensors = {name: array.astype(dtype) for name, array in lora().items()}
    tensors[f"base_model.model.{Q}.lora_B.weight"][5, 1] = value
    refuse(folder(tmp_path, tensors=tensors), match="NaN or infinity")


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.int32, np.bool_])
def test_other_dtypes_are_refused(tmp_path: Path, dtype: Any) -> None:
    tensors = {name: array.astype(dtype) for name, array in lora().items()}
    refuse(folder(tmp_path, tensors=tensors), match="F32, F16 or BF16")


def test_bytes_hidden_behind_the_tensors_are_refused(tmp_path: Path) -> None:
    with (folder(tmp_path) / "adapter_model.safetensors").open("ab") as file:
        file.write(b"anything")
    refuse(tmp_path)


def test_the_base_is_read_from_headers_alone(tmp_path: Path) -> None:
    weights = {f"{Q}.weight": np.ones((6, 4), np.float32), "model.norm.weight": np.ones(4)}
    save_file(weights, tmp_path / "model.safetensors")
    assert read_base(str(tmp_path)).shapes == {Q: (6, 4)}


def test_a_base_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    for path in (str(tmp_path), str(tmp_path / "none"), "no/such-model-here"):
        with pytest.raises(Invalid):
            read_base(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"target_modules": "([a-z0-9_.]+)+X"},
        {"exclude_modules": "([a-z0-9_.]+)+X"},
        {"layers_pattern": "([a-z]+)+X"},
    ],
)
def test_regular_expressions_of_strangers_never_reach_the_trainer(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    """PEFT would run them on every module name, and such a one does not end."""
    with pytest.raises(Invalid):
        validate_adapter(folder(tmp_path, **changed), BASE, max_rank=16)
