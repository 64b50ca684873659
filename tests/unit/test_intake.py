"""Uploads made plain: what people have, what becomes of it, and the edit that mends the rest."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from support.odd_configs import CHANGES

from adapters.intake.matching import Keys
from adapters.intake.plain import make_plain
from adapters.types import ArtifactInfo
from adapters.validate import BaseModel, validate_adapter
from core.errors import Invalid

LAYERS = range(4)
Q = "model.layers.{}.self_attn.q_proj"
DOWN = "model.layers.{}.mlp.down_proj"
EMBEDDING = "model.embed_tokens"
SHAPES = {
    **{Q.format(at): (6, 4) for at in LAYERS},
    **{DOWN.format(at): (4, 8) for at in LAYERS},
    EMBEDDING: (10, 4),
}
CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none",
}  # fmt: skip
Tensors = dict[str, Any]


def lora(module: str = Q.format(0), rank: int = 2, prefix: str = "base_model.model.") -> Tensors:
    outputs, inputs = SHAPES.get(module, (10, 4))
    return {
        f"{prefix}{module}.lora_A.weight": np.full((rank, inputs), 0.5, np.float32),
        f"{prefix}{module}.lora_B.weight": np.full((outputs, rank), 0.25, np.float32),
    }


def embedding(weight: Any = None) -> Tensors:
    """An update of the embedding, with the copy of its weight that PEFT writes beside it."""
    stem = f"base_model.model.{EMBEDDING}"
    return {
        f"{stem}.lora_embedding_A": np.ones((2, 10), np.float32),
        f"{stem}.lora_embedding_B": np.ones((4, 2), np.float32),
        **({} if weight is None else {f"{stem}.base_layer.weight": weight}),
    }


class Bench:
    """A folder with a base model, where adapters are made plain."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
        model = folder / "base"
        model.mkdir()
        save_file({f"{EMBEDDING}.weight": self.weights}, model / "model.safetensors")
        self.base = BaseModel(str(model), SHAPES)
        self.out = folder / "out"
        self.tries = 0

    def plain(self, tensors: Tensors | None = None, /, **changed: Any) -> ArtifactInfo:
        given = self.folder / "given"
        given.mkdir(exist_ok=True)
        (given / "adapter_config.json").write_text(json.dumps({**CONFIG, **changed}))
        save_file(lora() if tensors is None else tensors, given / "adapter_model.safetensors")
        self.tries += 1
        self.out = self.folder / f"out{self.tries}"
        self.out.mkdir()
        return make_plain(given, self.out, self.base, max_rank=16)

    @property
    def config(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.out / "adapter_config.json").read_text())
        return read

    @property
    def tensors(self) -> Tensors:
        return load_file(self.out / "adapter_model.safetensors")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_is_stored_names_its_modules_and_nothing_else(bench: Bench) -> None:
    info = bench.plain(
        target_modules=r".*\.(q|k)_proj",
        exclude_modules="(a+)+$",
        layers_pattern=["layers"],
        layers_to_transform=0,
        base_model_name_or_path="unsloth/some-model-bnb-4bit",
        auto_mapping={"parent_library": "transformers"},
        megatron_config={"hidden_size": 4},
        loftq_config={"loftq_bits": 4},
        eva_config={"rho": 2.0},
        lora_dropout="a lot",
    )
    assert bench.config == {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True, "bias": "none",
        "r": 2, "lora_alpha": 4, "rank_pattern": {}, "alpha_pattern": {}, "use_rslora": False,
        "target_modules": [Q.format(0)],
    }  # fmt: skip
    assert validate_adapter(bench.out, bench.base, max_rank=16) == info
    assert (info.rank, info.target_modules) == (2, ("q_proj",))
    assert all(np.array_equal(bench.tensors[name], value) for name, value in lora().items())


def test_the_same_adapter_is_the_same_digest_whoever_saved_it(bench: Bench) -> None:
    plain = bench.plain()
    assert bench.plain(target_modules=".*", peft_version="0.99.0") == plain
    renamed = {name.replace(".weight", ".default.weight"): t for name, t in lora().items()}
    assert bench.plain(renamed) == plain
    assert bench.plain(lora_alpha=8).digest != plain.digest


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("q_proj", "0123"), (Q.format(1), "1"), ("layers.1.self_attn.q_proj", "1"),
        (r"layers\.[02]\..*", "02"), (r"model.layers.\d+.self_attn.q_proj", "0123"),
        ("^model.layers.3.self_attn.q_proj", ""), (".*", "0123"), ("proj", ""), ("q_pro.", "0123"),
        ("self_attn.q_proj|x", "0123"), ("", ""),
    ],
)  # fmt: skip
def test_a_key_counts_for_the_modules_peft_would_say(
    bench: Bench, field: str, key: str, fits: str
) -> None:
    """PEFT: re.match(rf"(.*\\.)?({key})$", module), so `^` fits in the name's first place only."""
    fitting = fits if key[:1] != "^" else "3"
    tensors: Tensors = {}
    for at in LAYERS:
        own = field == "rank_pattern" and str(at) in fitting
        tensors |= lora(Q.format(at), rank=5 if own else 2)
    bench.plain(tensors, **{field: {key: 5}})
    setting = "r" if field == "rank_pattern" else "lora_alpha"
    default = bench.config[setting]
    values = dict.fromkeys(map(Q.format, LAYERS), default)
    for names, value in bench.config[field].items():
        values |= dict.fromkeys(names.split("|"), value)
    usual = 2 if field == "rank_pattern" else 4
    assert values == {Q.format(at): 5 if str(at) in fitting else usual for at in LAYERS}


def test_of_two_keys_that_fit_the_first_counts(bench: Bench) -> None:
    bench.plain(alpha_pattern={".*q_proj": 7, "q_proj": 9})
    assert bench.config["lora_alpha"] == 7
    bench.plain(alpha_pattern={"q_proj": 9, ".*q_proj": 7})
    assert bench.config["lora_alpha"] == 9


def test_patterns_of_a_whole_model_become_few_keys(bench: Bench) -> None:
    """The engine tries each key on each module while nobody is answered."""
    tensors: Tensors = {}
    for at in LAYERS:
        tensors |= lora(Q.format(at), rank=at % 2 + 1) | lora(DOWN.format(at), rank=2)
    bench.plain(tensors, rank_pattern={Q.format(at): at % 2 + 1 for at in LAYERS})
    assert (bench.config["r"], list(bench.config["rank_pattern"].values())) == (2, [1])
    assert validate_adapter(bench.out, bench.base, max_rank=16).rank == 2


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        lambda name: name.replace(".weight", ".default.weight"),
        lambda name: name.replace(".weight", ".my-adapter_2.weight"),
        lambda name: name.removeprefix("base_model.model."),
        lambda name: "module." + name,
        lambda name: "base_model.model." + name,
        lambda name: "_orig_mod." + name,
        lambda name: name.replace("model.layers", "_orig_mod.model.layers"),
        lambda name: name.replace("layers.0.", "layers.0._fsdp_wrapped_module."),
        lambda name: name.replace("self_attn.", "_checkpoint_wrapped_module.self_attn."),
    ],
)
def test_every_tools_name_of_a_tensor_becomes_pefts(bench: Bench, rename: Any) -> None:
    bench.plain({rename(name): tensor for name, tensor in lora().items()})
    assert bench.tensors.keys() == lora().keys()


def test_one_tensor_under_two_names_is_refused(bench: Bench) -> None:
    again = {name.replace(".weight", ".default.weight"): t for name, t in lora().items()}
    with pytest.raises(Invalid, match="given twice"):
        bench.plain({**lora(), **again})


@pytest.mark.parametrize("name", ["base_layer.weight", "weight"])
def test_the_bases_own_weight_is_left_out(bench: Bench, name: str) -> None:
    copy = {f"base_model.model.{EMBEDDING}.{name}": bench.weights}
    bench.plain({**embedding(), **copy})
    assert bench.tensors.keys() == embedding().keys()
    head = {f"base_model.model.lm_head.{name}": bench.weights}  # tied: the same weight
    bench.plain({**embedding(), **copy, **head})
    assert bench.tensors.keys() == embedding().keys()


def test_a_rounded_copy_of_the_base_is_the_base(bench: Bench) -> None:
    bench.plain(embedding(bench.weights.astype(np.float16)))
    assert bench.tensors.keys() == embedding().keys()


def test_another_weight_than_the_bases_is_refused_with_what_to_do(bench: Bench) -> None:
    trained = bench.weights.copy()
    trained[9, 3] += 0.001
    with pytest.raises(Invalid, match="its own trained weights"):
        bench.plain(embedding(trained))
    with pytest.raises(Invalid, match="its own trained weights"):
        bench.plain(embedding((bench.weights * 1.1).astype(np.float16)))
    with pytest.raises(Invalid, match="cannot add tokens"):
        bench.plain(embedding(np.ones((12, 4), np.float32)))
    with pytest.raises(Invalid, match="another base"):
        bench.plain({**lora(), "base_model.model.x.weight": np.ones(3, np.float32)})


def test_a_tied_head_is_an_adapter_of_its_own(bench: Bench) -> None:
    head = {
        "base_model.model.lm_head.lora_A.weight": np.ones((2, 4), np.float32),
        "base_model.model.lm_head.lora_B.weight": np.ones((10, 2), np.float32),
        "base_model.model.lm_head.base_layer.weight": bench.weights,
    }
    assert bench.plain(head).target_modules == ("lm_head",)
    with pytest.raises(Invalid, match="ensure_weight_tying=False"):
        bench.plain(embedding(), ensure_weight_tying=True)
    bench.plain(ensure_weight_tying=True)


@pytest.mark.parametrize(
    ("changed", "edit"),
    [
        ({"use_dora": True}, "train with use_dora=False"),
        ({"modules_to_save": ["lm_head"]}, "target_modules"),
        ({"bias": "lora_only"}, 'bias="none"'),
        ({"lora_bias": True}, "lora_bias=False"),
        ({"peft_type": "LOHA"}, "save_as_lora"),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
        ({"kasa_config": {"beta": 1}}, "train without it"),
        ({"use_something": True}, "remove it from adapter_config.json"),
        ({"something_config": {"a": 1}}, "remove it from adapter_config.json"),
        ({"target_modules": 5}, "list of module names"),
        ({"use_rslora": "yes"}, "true or false"),
        ({"r": 4}, "set r or rank_pattern"),
        ({"rank_pattern": {"(": 3}}, "no regular expression"),
        ({"lora_alpha": 1e308}, "at most 10,000"),
    ],
)
def test_a_refusal_names_the_edit_that_mends_it(
    bench: Bench, changed: dict[str, Any], edit: str
) -> None:
    with pytest.raises(Invalid) as refused:
        bench.plain(**changed)
    assert edit in refused.value.message
    assert len(refused.value.message) < 600


@pytest.mark.parametrize(
    ("tensor", "edit"),
    [
        ("model.layers.0.self_attn.q_proj.lora_magnitude_vector", "use_dora=False"),
        ("model.layers.0.self_attn.q_proj.lora_B.bias", "lora_bias=False"),
        ("model.layers.0.self_attn.q_proj.bias", 'bias="none"'),
        ("lm_head.modules_to_save.default.weight", "target_modules"),
        ("model.layers.0.self_attn.q_proj.lora_C.weight", "lora_A.weight"),
        ("x" * 5000, "lora_A.weight"),
        ("../x.lora_A.weight", "lora_A.weight"),
    ],
)
def test_a_strange_tensor_is_named_with_what_it_is(bench: Bench, tensor: str, edit: str) -> None:
    strange = {f"base_model.model.{tensor}": np.ones((2, 2), np.float32)}
    with pytest.raises(Invalid, match="Unexpected tensor") as refused:
        bench.plain({**lora(), **strange})
    assert edit in refused.value.message


@pytest.mark.parametrize(
    "changed",
    [
        {"something_new": None, "use_newer": False, "newer_config": {}, "newer_size": 16},
        {"modules_to_save": [], "target_parameters": [], "trainable_token_indices": None},
        {"eva_config": None, "corda_config": None, "use_bdlora": None, "rank_pattern": None},
        {"init_lora_weights": False}, {"init_lora_weights": None}, {"velora_config": {"a": 1}},
        {"bias": "none", "fan_in_fan_out": True, "megatron_core": "megatron.core"},
    ],
)  # fmt: skip
def test_what_peft_and_its_successors_leave_switched_off_is_passed_over(
    bench: Bench, changed: dict[str, Any]
) -> None:
    plain = bench.plain()
    assert bench.plain(**changed) == plain


def seconds(bench: Bench, tensors: Tensors | None = None, **changed: Any) -> float:
    """How long a refusal takes."""
    began = time.process_time()
    with pytest.raises(Invalid):
        bench.plain(tensors, **changed)
    return time.process_time() - began


def test_no_configuration_costs_more_than_its_reading(bench: Bench) -> None:
    """A hundred thousand keys once cost 160 s."""
    assert seconds(bench, rank_pattern={f"m{at}": 2 for at in range(100_000)}) < 2
    assert seconds(bench, alpha_pattern={f"m{at}.*": 2 for at in range(9_000)}) < 2
    assert seconds(bench, target_modules=["q_proj"] * 50_000) < 2
    assert seconds(bench, anything="x" * 900_000) < 2
    assert seconds(bench, anything=json.loads("[" * 20 + "]" * 20)) < 2
    began = time.process_time()
    bench.plain(rank_pattern={f"m{at}": 2 for at in range(9_000)})
    assert time.process_time() - began < 2


@pytest.mark.parametrize("key", ["([a-z0-9_.]+)+X", "(.*.*)*(.*)*(.*)*X", "([a-z_.0-9]+|l)*X"])
def test_a_regular_expression_without_an_end_is_ended(key: str) -> None:
    began = time.process_time()
    with pytest.raises(Invalid, match=r"do not end in 0\.2 s; write module names"):
        Keys("rank_pattern", {key: 2}, budget_s=0.2).of([Q.format(0)], 8)
    assert time.process_time() - began < 2
    assert Keys("rank_pattern", {".*q_proj": 2}, budget_s=0.2).of([Q.format(0)], 8) == {
        Q.format(0): 2
    }


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(CHANGES)
def test_no_configuration_does_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, changed: dict[str, Any]
) -> None:
    """What is taken has the same few fields, whatever was sent."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    try:
        bench.plain(**changed)
    except Invalid:
        return
    assert len(bench.config) == 10
    assert bench.config["target_modules"] == [Q.format(0)]


PIECES = st.sampled_from(
    ["base_model.model.", "model", "layers", "0", "self_attn", "q_proj", "lora_A", "lora_B",
     "default", "weight", "bias", "lora_embedding_A", "embed_tokens", "lm_head", "base_layer",
     "_orig_mod", "..", "modules_to_save", "", "/", "\n", "\u202e", "é", "x" * 400]
)  # fmt: skip
NAMES = st.lists(PIECES, min_size=1, max_size=8).map(".".join) | st.text(min_size=1, max_size=50)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES, st.sampled_from([(2, 4), (6, 2), (10, 4), (2,), ()]), max_size=6))
def test_no_names_of_tensors_do_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[int, ...]]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    with contextlib.suppress(Invalid):
        bench.plain({**lora(), **tensors})
        assert all("lora_" in name for name in bench.tensors)
