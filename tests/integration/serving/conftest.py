"""One real server for the whole session: vLLM on the shipped model, Attune inside, a trainer."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.tenant import Tenant

from core.settings import SHIPPED_MODEL
from deploy.processes.server_process import ServerProcess

RANKS = {"alpha": 4, "beta": 8, "gamma": 16}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`attune serve` with room for few adapters, so that tests meet eviction."""
    process = ServerProcess(
        tmp_path_factory.mktemp("server"),
        environment={
            "ATTUNE_MAX_LORAS": "4",
            "ATTUNE_MAX_CPU_LORAS": "4",
            "ATTUNE_CORS_ORIGINS": "https://app.example",
        },
    )
    process.start()
    yield process
    process.stop()


@pytest.fixture
def tenant(server: ServerProcess) -> Tenant:
    """A tenant nobody else uses."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    return Tenant(server, name, server.key(name))


@pytest.fixture
def other_tenant(server: ServerProcess) -> Tenant:
    """Another one."""
    name = f"o-{uuid.uuid4().hex[:8]}"
    return Tenant(server, name, server.key(name))


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random adapters of the shipped model that change its answers, of different ranks and
    modules."""
    return {
        name: make_adapter(tmp_path_factory.mktemp(name), rank=rank, seed=seed)
        for seed, (name, rank) in enumerate(RANKS.items())
    }


@pytest.fixture(scope="session")
def reference() -> Callable[[str, Path | None, int], str]:
    """Greedy answers of Transformers (and PEFT) in fp32, what serving must equal."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_MODEL)

    def greedy(question: str, adapter: Path | None, max_tokens: int) -> str:
        model: Any = AutoModelForCausalLM.from_pretrained(SHIPPED_MODEL, dtype=torch.float32)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter)
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        output = model.generate(**inputs, do_sample=False, max_new_tokens=max_tokens)
        text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return str(text)

    return greedy


def make_adapter(folder: Path, *, rank: int, seed: int, scale: float = 0.08) -> Path:
    """A LoRA with random A and B, large enough to change greedy answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    modules = ["q_proj", "v_proj"] if seed == 0 else "all-linear"
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(SHIPPED_MODEL, dtype=torch.float32),
        LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=modules, task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, scale if seed else 6 * scale)
    model.save_pretrained(folder)
    return folder
