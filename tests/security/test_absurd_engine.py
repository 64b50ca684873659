"""The real vLLM engine in this process: no adapter's weights change a bit of anyone's answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support.absurd import ALL, MLP, QKV, Fill, constant, opposed, unequal, write_adapter
from transformers import LlamaConfig, LlamaForCausalLM

from server.vllm.bounds.install import install as install_bounds
from server.vllm.bounds.log import PATH_VARIABLE, BoundsLog
from server.vllm.cpu_lora.install import install

NEW_TOKENS = 10
NUMBERS = itertools.count(1)  # engine ids are never reused
VICTIMS = [[1, 5, 9, 33], [1, 7], [1, *range(100, 140)], [1, 64, 3]]
ATTACK = [1, *range(30, 70)]
WEIGHTS = [1e2, 1e6, 1e9, 1e15, 1e20, 1e30, 3e38]
UNEQUAL = [(3e38, 1e-38), (1e-38, 3e38), (0.0, 3e38), (3e38, 0.0), (1e-3, 1e20)]
MODULES = {"all": ALL, "q": ("q_proj",), "qkv": QKV, "v": ("v_proj",), "mlp": MLP, "o": ("o_proj",)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=128,
        initializer_range=0.15,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    path = tmp_path_factory.mktemp("absurd") / "base"
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(
    scope="module",
    params=[
        "float32",
        pytest.param("bfloat16", marks=pytest.mark.drill),
        pytest.param("float16", marks=pytest.mark.drill),
    ],
)
def engine(
    request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Room for few blocks, so that a victim soon gets one an attacker had."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        patch.setenv("VLLM_PLUGINS", "")
        from vllm import LLM

        patch.setenv(PATH_VARIABLE, str(tmp_path_factory.getbasetemp() / "bounds"))
        assert install_bounds()
        assert install()
        yield LLM(
            model=str(base),
            skip_tokenizer_init=True,
            dtype=request.param,
            enforce_eager=True,
            max_model_len=96,
            max_num_seqs=16,
            num_gpu_blocks_override=8,
            enable_prefix_caching=False,
            enable_lora=True,
            max_loras=2,
            max_cpu_loras=4,
            max_lora_rank=16,
            seed=0,
        )


def answers(
    engine: Any, prompts: Sequence[list[int]], adapters: Sequence[tuple[int, Path] | None]
) -> list[list[int]]:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    outputs = engine.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts],
        SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False),
        lora_request=[a and LoRARequest(f"a{a[0]}", a[0], str(a[1])) for a in adapters],
        use_tqdm=False,
    )
    return [list(output.outputs[0].token_ids) for output in outputs]


def caches(engine: Any) -> list[torch.Tensor]:
    core = engine.llm_engine.engine_core.engine_core
    return list(core.model_executor.driver_worker.worker.model_runner.kv_caches)


def asked_twice(engine: Any, other: tuple[int, Path]) -> tuple[list[list[int]], list[list[int]]]:
    """What the victims are answered beside an adapter, and alone when it has gone."""
    prompts = [prompt for victim in VICTIMS for prompt in (victim, ATTACK)]
    beside = answers(engine, prompts, [None, other] * len(VICTIMS))
    return beside[::2], answers(engine, VICTIMS, [None] * len(VICTIMS))


@pytest.fixture(scope="module")
def wanted(
    engine: Any, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[list[int]], list[list[int]]]:
    """What the victims are answered beside and after an ordinary adapter."""
    ordinary = write_adapter(tmp_path_factory.mktemp("ordinary"), base, constant(0.01))
    return asked_twice(engine, (next(NUMBERS), ordinary))


CASES: list[tuple[str, Fill, Sequence[str]]] = [
    *(
        (f"{value:g}, {name}", constant(value), MODULES[name])
        for value in WEIGHTS
        for name in MODULES
    ),
    *((f"A {a:g}, B {b:g}", unequal(a, b), ALL) for a, b in UNEQUAL),
    *((f"inf - inf, {name}", opposed(3e38), MODULES[name]) for name in MODULES),
]


@pytest.mark.parametrize(
    ("fill", "modules"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_a_victim_is_answered_the_same_beside_and_after_absurd_weights(
    engine: Any,
    base: Path,
    wanted: tuple[list[list[int]], list[list[int]]],
    tmp_path: Path,
    fill: Fill,
    modules: Sequence[str],
) -> None:
    evil = (next(NUMBERS), write_adapter(tmp_path / "evil", base, fill, modules=modules))
    got = asked_twice(engine, evil)
    finite = [bool(cache.isfinite().all()) for cache in caches(engine)]
    for cache in caches(engine):
        cache.zero_()  # whatever this case left must not decide the next one
    assert (got, all(finite)) == (wanted, True)


@pytest.mark.parametrize(("value", "left"), [(0.05, False), (1e20, True), (3e38, True)])
def test_who_left_the_bounds_is_in_the_log_once_the_answer_is_there(
    engine: Any, base: Path, tmp_path: Path, value: float, left: bool
) -> None:
    number = next(NUMBERS)
    adapter = (number, write_adapter(tmp_path / "adapter", base, constant(value)))
    answers(engine, [ATTACK], [adapter])
    log = BoundsLog()
    assert log.has_saturated(number) == left
    if engine.llm_engine.model_config.dtype is not torch.float16:  # there, all are watched
        assert log.is_large(number) == left
