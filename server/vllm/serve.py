"""Starts vLLM 0.32's own OpenAI server with Attune inside: Attune's defaults, vLLM's flags."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters.bases import Bases, identify
from core.database import Database
from core.errors import Invalid
from core.settings import Settings
from server.vllm.ending import exit_now
from server.vllm.signals import SIGNALS

IN_PROCESS = "server.vllm.executor.InProcess"
_FEW_CORES = 4
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vLLM's buffers come in these sizes


def prepare_environment() -> None:
    """Variables vLLM's processes read; what the operator has set stays."""
    plugins = [name for name in os.environ.get("VLLM_PLUGINS", "").split(",") if name]
    if "attune" not in plugins:
        os.environ["VLLM_PLUGINS"] = ",".join([*plugins, "attune"])
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # vLLM closes idle connections after 5 s, just when httpx clients stop reusing theirs: a
    # request sent in that moment is lost. The server must be the more patient of the two.
    os.environ.setdefault("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "75")


def serve_arguments(settings: Settings, extra: Sequence[str], *, on_cpu: bool) -> list[str]:
    """vLLM's command line: Attune's defaults first, so that `extra` has the last word.

    Raises Invalid if ATTUNE_MAX_LORA_RANK fits none of vLLM's buffer sizes.
    """
    rank = next((size for size in _RANKS if size >= settings.max_lora_rank), None)
    if rank is None:
        raise Invalid(f"ATTUNE_MAX_LORA_RANK must be at most {_RANKS[-1]}.", param="max_lora_rank")
    arguments = [
        "--model", settings.model,
        "--served-model-name", settings.served_name,
        "--enable-lora",
        "--max-lora-rank", str(rank),
        "--max-loras", str(settings.max_loras),
        "--max-cpu-loras", str(max(settings.max_cpu_loras, settings.max_loras)),
        "--api-server-count", "1",
        "--enable-auto-tool-choice",
        "--tool-parser-plugin", str(Path(__file__).with_name("tool_parser.py")),
        "--tool-call-parser", "attune_hermes",
        "--disable-uvicorn-access-log",
        # Without it a small model may fill its whole answer with the blanks JSON allows.
        "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
    ]  # fmt: skip
    if on_cpu:
        # fp32: the same tokens as Transformers + PEFT, and faster than bf16 on CPUs that have no
        # bf16 arithmetic. Eager: compiling costs minutes and gains nothing for small models.
        arguments += ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "64"]
        if threads_in_process(os.environ) is not None:
            arguments += ["--distributed-executor-backend", IN_PROCESS]
    return arguments + list(extra)


def threads_in_process(environment: Mapping[str, str]) -> int | None:
    """OpenMP threads of a model that shares the engine's process; None: vLLM's own arrangement.

    vLLM puts the model into a process of its own, and the engine spins on a core while it waits
    for each step. Of a few cores that is one too many: it starves the API server.
    """
    cores = len(os.sched_getaffinity(0))
    if cores > _FEW_CORES or "VLLM_CPU_OMP_THREADS_BIND" in environment:
        return None
    return max(1, cores - 1)  # one is left to the API server


def serve(settings: Settings, extra: Sequence[str]) -> None:
    """Run the server until it is told to stop; blocks. A signal before it is up ends it at once."""
    # In place of vLLM's `run_server`, whose handler raises KeyboardInterrupt wherever the main
    # thread happens to be: some places swallow it, and the server then loads on for ever.
    for number in SIGNALS:
        signal.signal(number, lambda *_: exit_now())
    prepare_environment()
    import uvloop
    from vllm.entrypoints.launchers.api_server.entry import run_server_worker
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.launchers.launcher import setup_server
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.platforms import current_platform
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.utils.system_utils import decorate_logs

    cli_env_setup()
    parser = make_arg_parser(FlexibleArgumentParser(prog="attune serve"))
    on_cpu = bool(current_platform.is_cpu())
    if on_cpu:
        # Eager all through: else the first request for logprobs stalls everybody for a quarter
        # of a minute while a helper of the sampler is compiled.
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
        if (threads := threads_in_process(os.environ)) is not None:
            os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    args = parser.parse_args(serve_arguments(settings, extra, on_cpu=on_cpu))
    validate_parsed_serve_args(args)
    _require_base(settings, args.model)
    decorate_logs("APIServer", skip_if_decorated=True)
    uvloop.run(run_server_worker(*setup_server(args, reuse_port=False), args))


def _require_base(settings: Settings, model: str) -> None:
    """Refuse another base model before it is loaded, which may take minutes; starting up looks
    again. One that is not on this machine yet is looked at then."""
    try:
        base = identify(model, settings.home)
    except Invalid:
        return
    database = Database(settings.resolved_database_url())
    database.upgrade()
    Bases(database).bind(base, accepted=settings.accept_base)
    database.dispose()
