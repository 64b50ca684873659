"""The real vLLM engine with our CPU LoRA arithmetic against Hugging Face and PEFT, greedy, fp32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from server.vllm.cpu_lora.install import install

NEW_TOKENS = 12
ADAPTERS = {
    "everything": (
        8,
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ),
    "attention": (4, ["q_proj", "v_proj"]),
    "mlp": (16, ["up_proj", "down_proj"]),
    "ends": (2, ["embed_tokens", "lm_head", "k_proj"]),
}
PROMPTS = [[1, 5, 9, 33], [1, 7], [1, 100, 101, 102, 103, 104, 90], [1, 64, 3]]


def _write_model(path: Path) -> None:
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
    LlamaForCausalLM(config).save_pretrained(path)


def _write_adapter(base: Path, path: Path, rank: int, modules: list[str], seed: int) -> None:
    torch.manual_seed(seed)
    model = get_peft_model(
        LlamaForCausalLM.from_pretrained(base),
        LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=modules),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    model.save_pretrained(path, save_embedding_layers=False)


def _greedy(model: Any, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    return ids[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cpu_lora")
    _write_model(root / "base")
    for seed, (name, (rank, modules)) in enumerate(ADAPTERS.items(), 1):
        _write_adapter(root / "base", root / name, rank, modules, seed)
    return root


@pytest.fixture(scope="module")
def wanted(folder: Path) -> dict[str, list[list[int]]]:
    """What each adapter, and the base model ("") answers alone in Hugging Face and PEFT."""
    base = LlamaForCausalLM.from_pretrained(folder / "base").eval()
    answers = {"": [_greedy(base, prompt) for prompt in PROMPTS]}
    for name in ADAPTERS:
        fresh = LlamaForCausalLM.from_pretrained(folder / "base")
        model = PeftModel.from_pretrained(fresh, folder / name).eval()
        answers[name] = [_greedy(model, prompt) for prompt in PROMPTS]
    return answers


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        patch.setenv("VLLM_PLUGINS", "")
        from vllm import LLM

        assert install()
        yield LLM(
            model=str(folder / "base"),
            skip_tokenizer_init=True,
            dtype="float32",
            enforce_eager=True,
            max_model_len=64,
            max_num_seqs=32,
            enable_lora=True,
            max_loras=3,
            max_cpu_loras=8,
            max_lora_rank=16,
            seed=0,
        )


def _answers(engine: Any, folder: Path, asked: list[tuple[str, int]]) -> list[list[int]]:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    names = list(ADAPTERS)
    outputs = engine.generate(
        [{"prompt_token_ids": PROMPTS[prompt]} for _, prompt in asked],
        SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False),
        lora_request=[
            LoRARequest(name, names.index(name) + 1, str(folder / name)) if name else None
            for name, _ in asked
        ],
        use_tqdm=False,
    )
    return [list(output.outputs[0].token_ids) for output in outputs]


def test_the_adapters_differ_so_that_a_mix_up_would_show(
    wanted: dict[str, list[list[int]]],
) -> None:
    for prompt in range(len(PROMPTS)):
        assert len({tuple(answers[prompt]) for answers in wanted.values()}) == len(wanted)


@pytest.mark.parametrize(
    "names",
    [
        ["", "everything", "attention", "mlp"],
        ["ends", "", "mlp", "everything", ""],
        ["", ""],
        ["attention"],
        ["mlp", "ends", "attention", "everything", ""],  # more adapters than slots
    ],
)
def test_each_request_of_a_mixed_batch_is_answered_as_if_alone(
    engine: Any, folder: Path, wanted: dict[str, list[list[int]]], names: list[str]
) -> None:
    asked = [(name, prompt) for prompt in range(len(PROMPTS)) for name in names]
    got = _answers(engine, folder, asked)
    assert got == [wanted[name][prompt] for name, prompt in asked]
