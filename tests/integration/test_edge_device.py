"""A real export on a device: from the `edge` extra alone, in its own environment, without network.

The environment is made once per set of dependencies and kept in the temporary folder; the project
itself is installed into it anew each session.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import venv
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from support.speaker import check_speaker

from core.errors import AttuneError, Conflict, Invalid
from deploy.edge.engine import Engine, Generation
from deploy.edge.installed import Installation
from deploy.edge.manifest import digest_of_files, entries_of, read_manifest, write_manifest
from deploy.edge.text import StopScan
from deploy.edge.types import Sampling
from deploy.export.exporter import export_adapter
from deploy.export.request import AdapterVersion, ExportJob

ROOT = Path(__file__).parents[2]
QUESTION = ({"role": "user", "content": "Where does the otter live in February?"},)
GREEDY = Sampling(temperature=0.0, max_tokens=40)
FORBIDDEN = (
    "torch",
    "transformers",
    "vllm",
    "peft",
    "trl",
    "onnx",
    "fastapi",
    "typer",
    "sqlalchemy",
)
CONVERSATIONS = [
    [{"role": "user", "content": "Where does the otter live?"}],
    [{"role": "system", "content": 'Be "kind".\n'}, {"role": "user", "content": "{{ x }} {% y %}"}],
    [
        {"role": "user", "content": "é 你 12 😀 \t 345 \\n </s> <|im_end|>"},
        {"role": "assistant", "content": "  spaces  "},
        {"role": "user", "content": ""},
    ],
]


@pytest.fixture(scope="module")
def export(edge_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, base and one adapter with random weights, as fp32."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("edge")
    torch.set_num_threads(1)  # so small a model gains nothing from more
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(ROOT / "deploy" / "model")
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    get_peft_model(model, config).save_pretrained(folder / "lora")
    job = ExportJob(
        model=ROOT / "deploy" / "model",
        model_name="base",
        layout="base+adapters",
        precision="fp32",
        adapter=AdapterVersion(folder / "lora", "support", 1, "a" * 64),
    )
    out = shutil.copytree(edge_base, folder / "export")
    place = out / "adapters" / "support@1"
    export_adapter(job, out, place, lambda message, share: None)
    return out


@pytest.fixture(scope="module")
def engine(export: Path) -> Engine:
    return Engine(Installation(export))


@pytest.fixture(scope="module")
def device_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with `attune[edge]` and nothing else."""
    key = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode())
    cached = Path(tempfile.gettempdir()) / f"attune-edge-venv-{key.hexdigest()[:16]}"
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("core", "adapters", "feedback", "trainer", "server", "deploy"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    python = cached / "bin" / "python"
    if not (cached / "complete").exists():
        shutil.rmtree(cached, ignore_errors=True)
        venv.create(cached, with_pip=True)
        pip(python, "install", f"{source}[edge]")
        (cached / "complete").touch()
    else:
        pip(python, "install", "--no-deps", "--force-reinstall", str(source))
    return python


def pip(python: Path, *arguments: str) -> str:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(python: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of the device's environment, far from the checkout."""
    return subprocess.run(
        [str(python.parent / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tempfile.gettempdir(),
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )


def without_network() -> list[str]:
    """The prefix that cuts a command off the network; empty, with a warning, where none may."""
    for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and subprocess.run([*prefix, "true"]).returncode == 0:
            return prefix
    warnings.warn(
        "THE NETWORK WAS NOT CUT OFF: `unshare -n` is not permitted here. The device's drill ran "
        "with a network and proves nothing about being offline.",
        stacklevel=2,
    )
    return []


def test_the_edge_extra_brings_little(device_python: Path) -> None:
    listed = json.loads(pip(device_python, "list", "--format", "json"))
    names = {package["name"].lower() for package in listed}
    wanted = {
        "httpx",
        "numpy",
        "onnxruntime-genai",
        "pydantic",
        "starlette",
        "tokenizers",
        "uvicorn",
    }
    assert {"attune", *wanted} <= names
    assert not names & {*FORBIDDEN}
    assert len(names) <= 40, sorted(names)
    pip(device_python, "check")


def test_the_devices_modules_import_nothing_else(device_python: Path) -> None:
    script = (
        "import sys, pkgutil, importlib, deploy.cli.entry, deploy.edge as device\n"
        "for one in pkgutil.iter_modules(device.__path__):\n"
        "    importlib.import_module('deploy.edge.' + one.name)\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(tops - sys.stdlib_module_names))\n"
    )
    done = run(device_python, "python", "-I", "-c", script)
    assert done.returncode == 0, done.stderr
    ours = {"core", "deploy"}
    named = {"httpx", "numpy", "onnxruntime_genai", "onnxruntime", "pydantic", "starlette"}
    named |= {"tokenizers", "uvicorn"}
    theirs = {"annotated_types", "anyio", "click", "h11", "idna", "pydantic_core", "sniffio"}
    theirs |= {"typing_extensions", "typing_inspection", "certifi", "httpcore"}
    pythons = {"__main__", "__mp_main__", "_distutils_hack"}
    found = {name for name in done.stdout.split() if not name.startswith("_sysconfigdata")}
    assert found - ours - named - theirs - pythons == set()


def test_other_commands_name_the_extra_they_need(device_python: Path) -> None:
    done = run(device_python, "attune", "serve")
    assert done.returncode == 1
    assert "pip install 'attune[server]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert "chat" in run(device_python, "attune", "edge", "--help").stdout


def test_it_answers_rates_and_survives_a_kill_with_the_network_cut(
    device_python: Path, export: Path, engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "device"
    shutil.copytree(export, folder)
    cut = without_network()
    drill = ROOT / "tests" / "support" / "offline_drill.py"
    done = subprocess.run(
        [*cut, device_python, "-I", drill, folder, "cut" if cut else "open"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    if cut:
        assert seen["outside"] == "Network is unreachable"
    installation = Installation(export)
    expected = {
        name: "".join(engine.start(installation.find(name), QUESTION, GREEDY))
        for name in ("base", "support")
    }
    assert seen["base"] == ["base", expected["base"]]
    assert seen["support"] == seen["support@1"] == ["support@1", expected["support"]]
    assert seen["chat"][0] == 0, seen["chat"]
    assert expected["support"] in seen["chat"][1]
    counts = seen["info"]["items"]["counts"]
    # One answer of the chat, three of the server; the one that was killed may be there or not.
    assert counts["interaction"]["waiting"] in (4, 5)
    # The chat's thumb, three before the kill and three after, each under an id of its own.
    assert counts["feedback"]["waiting"] == 7
    assert seen["info"]["whole"]


def test_prompts_are_those_of_transformers(engine: Engine) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "deploy" / "model")
    for messages in CONVERSATIONS:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert engine.render(messages) == text
        assert engine.encode(text) == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", ["base", "support@1"])
def test_the_engine_keeps_the_promises_of_a_speaker(
    engine: Engine, export: Path, name: str
) -> None:
    check_speaker(engine, Installation(export).find(name))


def test_the_ids_told_are_those_transformers_reads_and_samples(
    engine: Engine, export: Path
) -> None:
    """Greedy, with the token that ends the answer; and what a stop string hides is among them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "deploy" / "model")
    model = AutoModelForCausalLM.from_pretrained(ROOT / "deploy" / "model", dtype="float32")
    read = tokenizer.apply_chat_template(
        list(QUESTION), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    length = read["input_ids"].shape[1]
    expected = model.generate(**read, do_sample=False, max_new_tokens=40)[0].tolist()
    base = Installation(export).own()
    speech = engine.start(base, QUESTION, GREEDY)
    text = "".join(speech)
    assert [*speech.prompt, *speech.token_ids] == expected
    assert speech.token_ids[-1] == tokenizer.eos_token_id
    stopped = engine.start(base, QUESTION, replace(GREEDY, stop=(text[4:7],)))
    assert len("".join(stopped)) <= 4
    assert stopped.token_ids == expected[length:][: len(stopped.token_ids)]
    assert text[4:7] in tokenizer.decode(stopped.token_ids)


def test_switching_adapters_leaves_no_trace(engine: Engine, export: Path) -> None:
    installation = Installation(export)
    said = [
        "".join(engine.start(installation.find(name), QUESTION, GREEDY))
        for name in ("base", "support@1", "base", "support")
    ]
    assert said[0] == said[2] != said[1] == said[3]


def test_a_seed_repeats_an_answer_and_none_does_not(engine: Engine, export: Path) -> None:
    base = Installation(export).own()

    def say(seed: int | None) -> str:
        return "".join(engine.start(base, QUESTION, Sampling(1.5, seed=seed, max_tokens=20)))

    assert say(7) == say(7)
    assert say(-(1 << 40)) == say(-(1 << 40))
    assert len({say(seed) for seed in range(6)}) > 1
    assert len({say(None) for _ in range(6)}) > 1


def test_a_stop_string_ends_the_answer_before_it(engine: Engine, export: Path) -> None:
    base = Installation(export).own()
    whole = "".join(engine.start(base, QUESTION, GREEDY))
    stop = whole[20:24]
    speech = engine.start(base, QUESTION, Sampling(0.0, max_tokens=40, stop=(stop,)))
    assert "".join(speech) == whole[: whole.index(stop)]
    assert speech.finish_reason == "stop"


def test_no_piece_of_a_stream_is_half_a_character(engine: Engine) -> None:
    """A generator that says given tokens stands in for the model, which knows no emoji."""
    text = "é 你 😀 ok"
    tokens = engine.encode(text)
    assert len(tokens) > len(text)

    class Given:
        def __init__(self) -> None:
            self.said = 0

        def append_tokens(self, prompt: list[int]) -> None:
            pass

        def is_done(self) -> bool:
            return self.said == len(tokens)

        def generate_next_token(self) -> None:
            self.said += 1

        def get_next_tokens(self) -> list[int]:
            return [tokens[self.said - 1]]

    stream = engine._tokenizer.create_stream()
    scan, never = StopScan(()), threading.Event()
    pieces = list(Generation(Given(), stream, [1], frozenset(), scan, never))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_the_context_limit_counts_prompt_and_answer(engine: Engine, export: Path) -> None:
    base = Installation(export).own()
    with pytest.raises(Invalid, match=r"context is 1,024 tokens; the messages have \d+ and 1,020"):
        engine.start(base, QUESTION, Sampling(max_tokens=1_020))
    engine.start(base, QUESTION, Sampling(max_tokens=900))


@pytest.mark.parametrize("file", ["model.onnx", "model.onnx.data", "genai_config.json"])
def test_a_damaged_file_is_named(export: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(export, tmp_path / "device")
    path = tmp_path / "device" / "model" / file
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(Conflict, match=file) as refused:
        Engine(Installation(tmp_path / "device"))
    assert refused.value.code == "digest_mismatch"


@pytest.mark.parametrize("file", ["model.onnx", "genai_config.json", "tokenizer.json"])
def test_a_graph_that_was_damaged_before_its_manifest_is_a_clear_error(
    export: Path, tmp_path: Path, file: str
) -> None:
    """The digests fit; the file is still no model."""
    from dataclasses import replace

    folder = tmp_path / "device"
    shutil.copytree(export, folder)
    path = folder / "model" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    files = entries_of(folder, below="model")
    changed = replace(read_manifest(folder), files=files, model_digest=digest_of_files(files))
    write_manifest(folder, changed)
    with pytest.raises(AttuneError, match="cannot be loaded"):
        Engine(Installation(folder))
