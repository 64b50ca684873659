"""Real exports: equal to transformers and PEFT when they appear, and nothing left when not."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.artifacts.digest import base_digest
from adapters.validate import read_base
from core.errors import Conflict, Invalid, Unavailable
from deploy.bench.adapters import write_adapter
from deploy.edge.manifest import check_files, read_manifest
from deploy.export.exporter import export_adapter, export_model
from deploy.export.prompts import ENOUGH, shipped_prompts
from deploy.export.request import AdapterVersion, ExportJob

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "model"
QUERY_VALUE = ("q_proj", "v_proj")


def ignore(_: str, __: float) -> None:
    pass


def job(layout: Any, precision: Any, model: Path = SHIPPED, **fields: Any) -> ExportJob:
    return ExportJob(model, "base", layout, precision, **fields)


def version_job(folder: Path, number: int, layout: Any, precision: Any) -> ExportJob:
    return job(
        layout,
        precision,
        adapter=AdapterVersion(folder, "support", number, "a" * 64),
    )


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """So small a model gains nothing from more, and other processes run beside it."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random adapters of the shipped model: three ranks, a subset of modules, odd scalings."""
    root, base = tmp_path_factory.mktemp("adapters"), read_base(str(SHIPPED))
    found = {
        f"rank {rank}": write_adapter(root / f"r{rank}", base, seed=rank, rank=rank)
        for rank in (4, 8, 16)
    }
    found["queries and values"] = write_adapter(
        root / "qv", base, seed=3, rank=4, modules=QUERY_VALUE
    )
    found["rsLoRA"] = configured(root / "rs", base, use_rslora=True, lora_alpha=2)
    found["own alphas"] = configured(
        root / "alphas", base, alpha_pattern={"v_proj": 8, "layers.1.mlp.up_proj": 1.5}
    )
    found["own ranks"] = with_two_ranks(root / "ranks", base)
    return found


def configured(folder: Path, base: Any, **settings: Any) -> Path:
    write_adapter(folder, base, seed=7, rank=4)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def with_two_ranks(folder: Path, base: Any) -> Path:
    """Rank 2 for queries, rank 4 for the rest, alpha 4: scaling 2 for queries, 1 for the rest."""
    from safetensors.numpy import load_file, save_file

    both = {}
    for rank, modules in ((2, ("q_proj",)), (4, ("v_proj", "down_proj"))):
        part = write_adapter(folder / f"{rank}", base, seed=rank, rank=rank, modules=modules)
        both |= load_file(part / "adapter_model.safetensors")
        shutil.rmtree(part)
    write_adapter(folder, base, seed=1, rank=4, modules=("q_proj", "v_proj", "down_proj"))
    save_file(both, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rank_pattern": {"q_proj": 2}}))
    return folder


@pytest.fixture(scope="module")
def base(edge_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, exported with exchangeable adapters at fp32; adapters may be added."""
    return shutil.copytree(edge_base, tmp_path_factory.mktemp("edge") / "base")


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Path:
    """A copy of the base export to spoil."""
    return shutil.copytree(base, tmp_path / "base")


def test_the_base_is_equal_to_its_source_and_says_so(base: Path) -> None:
    manifest = read_manifest(base)
    check_files(base, manifest)
    found = manifest.verification
    assert found is not None
    assert (found.prompts, found.prompt_source, found.passed) == (ENOUGH, "shipped", True)
    assert (found.greedy_equal, found.argmax_agreement, found.top5_overlap) == (1.0, 1.0, 1.0)
    assert found.max_logit_difference < 1e-3
    assert (manifest.kind, manifest.layout) == ("base", "base+adapters")
    assert (manifest.model.name, manifest.model.adapter) == ("base", None)
    assert manifest.model.base_digest == base_digest(SHIPPED)
    assert {"onnxruntime-genai", "onnx", "attune"} <= set(manifest.tools)
    wanted = ("model.onnx", "genai_config.json", "tokenizer.json", "chat_template.jinja")
    names = {f"model/{name}" for name in (*wanted, "generation_config.json")}
    assert names <= set(manifest.files)
    assert [path.name for path in base.parent.iterdir()] == ["base"]


def test_without_an_adapter_the_base_computes_exactly_what_a_zero_adapter_does(
    base: Path, tmp_path: Path
) -> None:
    from deploy.export.adapter_file import write_onnx_adapter
    from deploy.export.graph import read_slots
    from deploy.export.verify import Runtime

    slots = read_slots(base / "model" / "model.onnx")
    zeros = {
        module: (np.ones((4, slot.in_features), "f4"), np.zeros((slot.out_features, 4), "f4"))
        for module, slot in slots.items()
    }
    write_onnx_adapter(tmp_path / "zero.onnx_adapter", zeros, slots)
    ids = [1, 5, 9, 200, 1000]
    without = Runtime(base / "model").logits(ids, len(ids))
    zero = Runtime(base / "model", tmp_path / "zero.onnx_adapter").logits(ids, len(ids))
    np.testing.assert_array_equal(without, zero)


@pytest.mark.parametrize(
    "name",
    ["rank 4", "rank 8", "rank 16", "queries and values", "rsLoRA", "own alphas", "own ranks"],
)
def test_every_adapter_runs_on_the_one_base_as_peft_computes_it(
    base: Path, adapters: dict[str, Path], tmp_path: Path, name: str
) -> None:
    from deploy.export.adapter_file import read_matrices, write_onnx_adapter
    from deploy.export.graph import read_slots
    from deploy.export.reference import measure
    from deploy.export.verify import LIMITS, Runtime, compare
    from trainer.model.warm import WarmModel

    model = WarmModel(str(SHIPPED), device="cpu")
    expected = measure(model, adapters[name], shipped_prompts(SHIPPED, 6))
    file = tmp_path / "one.onnx_adapter"
    write_onnx_adapter(
        file, read_matrices(adapters[name]), read_slots(base / "model" / "model.onnx")
    )
    found = compare(Runtime(base / "model", file), expected, LIMITS["fp32"], "shipped")
    assert (found.greedy_equal, found.argmax_agreement) == (1.0, 1.0)
    assert found.max_logit_difference < 1e-3
    unadapted = compare(Runtime(base / "model"), expected, LIMITS["fp32"], "shipped")
    assert not unadapted.passed


def test_a_later_version_adds_only_its_own_small_file(
    copied: Path, adapters: dict[str, Path]
) -> None:
    before = read_manifest(copied)
    seen: list[float] = []
    manifest = export_adapter(
        version_job(adapters["rank 16"], 2, "base+adapters", "fp32"),
        copied,
        copied / "adapters" / "support@2",
        lambda _, share: seen.append(share),
    )
    folder = copied / "adapters" / "support@2"
    assert sorted(p.name for p in folder.iterdir()) == ["adapter.onnx_adapter", "manifest.json"]
    assert read_manifest(folder) == manifest
    check_files(folder, manifest)
    check_files(copied, before)
    assert manifest.files["adapter.onnx_adapter"].size_bytes < 2_000_000
    assert (manifest.kind, manifest.rank, manifest.model.name) == ("adapter", 16, "support@2")
    assert manifest.base_model_digest == before.model_digest
    assert manifest.verification is not None
    assert manifest.verification.greedy_equal == 1.0
    assert seen == sorted(seen)
    assert 0.0 <= seen[0] <= seen[-1] <= 1.0


def test_a_killed_export_leaves_no_export_and_the_next_run_clears_up_and_finishes(
    adapters: dict[str, Path], tmp_path: Path
) -> None:
    """The second run is the shipped model's merged int4 export, with its own figures."""
    out, staging = tmp_path / "merged", tmp_path / ".merged.partial"
    script = (
        "import sys; from pathlib import Path; from deploy.export.exporter import *\n"
        "from deploy.export.request import ExportJob\n"
        f"job = ExportJob(Path({str(SHIPPED)!r}), 'base', 'merged', 'int4')\n"
        f"export_model(job, Path({str(out)!r}), lambda m, s: print(m, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("Building" in line for line in process.stdout)
        process.kill()
    assert staging.is_dir()
    assert not out.exists()
    manifest = export_model(version_job(adapters["rank 8"], 1, "merged", "int4"), out, ignore)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    assert (manifest.kind, manifest.model.name, manifest.model.version) == (
        "merged",
        "support@1",
        1,
    )
    found = manifest.verification
    assert found is not None
    assert found.argmax_agreement >= 0.95
    size_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    assert size_bytes < (SHIPPED / "model.safetensors").stat().st_size / 2


def test_an_architecture_the_builder_gets_wrong_is_refused_with_the_numbers(
    tmp_path: Path,
) -> None:
    model = tiny(tmp_path / "olmo", "Olmo")
    with pytest.raises(Invalid, match=r"argmax_agreement 0\.\d+ \(at least 0.999\)") as caught:
        export_model(job("merged", "fp32", model), tmp_path / "out", ignore)
    assert caught.value.code == "export_not_equal"
    assert "greedy_equal" in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["olmo"]


def test_an_architecture_the_builder_lacks_is_refused_by_name(tmp_path: Path) -> None:
    model = tiny(tmp_path / "olmo2", "Olmo2")
    with pytest.raises(Invalid, match=r"Olmo2ForCausalLM.*Llama") as caught:
        export_model(job("merged", "fp32", model), tmp_path / "out", ignore)
    assert caught.value.code == "unsupported_architecture"
    assert [path.name for path in tmp_path.iterdir()] == ["olmo2"]


def test_a_cancelled_export_leaves_nothing(tmp_path: Path) -> None:
    model = tiny(tmp_path / "llama", "Llama")

    def stop(message: str, _: float) -> None:
        if message.startswith("Building"):
            raise Conflict("The export was cancelled.", code="cancelled")

    with pytest.raises(Conflict, match="cancelled"):
        export_model(job("merged", "fp32", model), tmp_path / "out", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["llama"]


@pytest.mark.parametrize("adapted", [False, True])
def test_a_full_disk_is_said_and_nothing_stays(tmp_path: Path, adapted: bool) -> None:
    """No file may hold half the model: the graph's data, or the merged copy before it, fails."""
    model = tiny(tmp_path / "llama", "Llama")
    room_bytes = (model / "model.safetensors").stat().st_size // 2
    wanted = job("merged", "fp32", model)
    if adapted:
        adapter = write_adapter(tmp_path / "adapter", read_base(str(model)), seed=1, rank=4)
        wanted = replace(wanted, adapter=AdapterVersion(adapter, "support", 1))
    with files_of_at_most(room_bytes), pytest.raises(Unavailable) as caught:
        export_model(wanted, tmp_path / "out", ignore)
    assert caught.value.code == "disk_full"
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_a_spoiled_base_takes_no_adapter(copied: Path, adapters: dict[str, Path]) -> None:
    graph = copied / "model" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    refused(copied, version_job(adapters["rank 4"], 1, "base+adapters", "fp32"), Conflict, "bytes")


def test_another_models_base_takes_no_adapter(
    copied: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    other = shutil.copytree(SHIPPED, tmp_path / "other")
    config = json.loads((other / "config.json").read_text()) | {"rms_norm_eps": 1e-5}
    (other / "config.json").write_text(json.dumps(config))
    wanted = replace(version_job(adapters["rank 4"], 1, "base+adapters", "fp32"), model=other)
    refused(copied, wanted, Conflict, "another base model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"use_dora": True}, "use_dora"), ({"peft_type": "IA3"}, "only LORA"),
     ({"modules_to_save": ["lm_head"]}, "modules_to_save")],
)  # fmt: skip
def test_an_adapter_that_is_no_plain_lora_is_refused(
    copied: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = configured(tmp_path / "adapter", read_base(str(SHIPPED)), **changes)
    refused(copied, version_job(folder, 1, "base+adapters", "fp32"), Invalid, message)


def test_an_adapter_of_the_embeddings_is_refused(copied: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = write_adapter(tmp_path / "adapter", read_base(str(SHIPPED)), seed=1, rank=2)
    vocabulary, hidden = read_base(str(SHIPPED)).shapes["model.embed_tokens"]
    stem = "base_model.model.model.embed_tokens.lora_embedding_"
    tensors = {f"{stem}A": np.ones((2, vocabulary), "f4"), f"{stem}B": np.ones((hidden, 2), "f4")}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Invalid, match="embeddings"):
        export_model(version_job(folder, 1, "merged", "fp32"), tmp_path / "out", ignore)
    refused(copied, version_job(folder, 1, "base+adapters", "fp32"), Invalid, "embeddings")


def test_a_taken_folder_is_left_alone(base: Path) -> None:
    before = read_manifest(base)
    with pytest.raises(Conflict, match="exists already"):
        export_model(job("base+adapters", "fp32"), base, ignore)
    check_files(base, before)


def refused(base: Path, wanted: ExportJob, kind: type[Exception], message: str) -> None:
    """The adapter export fails with `kind` and leaves no folder."""
    out = base / "adapters" / "support@1"
    with pytest.raises(kind, match=message):
        export_adapter(wanted, base, out, ignore)
    assert not out.exists()
    assert not list(base.glob("adapters/.*"))


def tiny(folder: Path, family: str) -> Path:
    """A random model of `family`, decided enough to have likely tokens, and a tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=1792,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        initializer_range=0.2,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
    )
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(SHIPPED / name, folder / name)
    return folder


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
