"""Attune's two entry points into vLLM 0.32: the general plugin (every process) and the endpoint
plugin (the API server). Works under `attune serve` and under a stock `vllm serve` alike, with
VLLM_PLUGINS=attune.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from adapters.bases import identify
from core.errors import Invalid
from core.logs import keep_logs_clean
from core.settings import Settings
from core.work.kind import Kind
from server.cors import Cors, parse_origins
from server.door.gateway import Gateway
from server.engine.port import EngineTraits
from server.routes import attach
from server.runtime import Runtime
from server.vllm import connections, served
from server.vllm.adapters import VllmEngine
from server.vllm.bounds.log import BoundsLog
from server.vllm.ending import Ending, exit_within
from server.vllm.grammars.engine import compiler_of
from server.vllm.many_loras import drop_combinations
from server.vllm.signals import EngineSignals
from server.vllm.template import template_of

logger = logging.getLogger("attune.server")

_SWITCH_S = 0.0005
_EXIT_S = 15.0  # from our own end to the process's: vLLM's engine and the trainer end meanwhile


def register() -> None:
    """`vllm.general_plugins`: runs in every vLLM process before a model is loaded."""
    keep_logs_clean()
    from server.vllm import cpu_seeds, signals
    from server.vllm import many_loras as vllm_many_loras
    from server.vllm.bounds.install import install as install_bounds

    signals.install()
    vllm_many_loras.install()
    cpu_seeds.install()
    install_bounds()
    if os.environ.get("ATTUNE_CPU_LORA", "on") == "off":  # to compare: docs/benchmarks.md
        logger.warning("ATTUNE_CPU_LORA=off: LoRA by vLLM's own CPU code, slow and inexact.")
        return
    from server.vllm.cpu_lora.install import install as install_cpu_lora

    install_cpu_lora()


class AttuneEndpoints:
    """`vllm.endpoint_plugins`: Attune's routes, the gateway around all of them, and its state."""

    name = "attune"
    required_tasks = ("generate",)

    def __init__(self, kinds: Sequence[type[Kind[Any, Any]]]) -> None:
        self._kinds = kinds
        self._runtime: Runtime | None = None

    def attach_router(self, app: FastAPI) -> None:
        """Add our routes and put the gateway before every route, ours and vLLM's."""
        own = attach(app, self._kinds)
        app.add_middleware(Gateway, runtime=lambda: self._runtime, own=own)
        _let_pages_in(app)
        app.router.lifespan_context = self._running(app.router.lifespan_context)

    async def init_state(self, engine_client: Any, state: State, args: Namespace) -> None:
        """Take over the registry and preload before the first request is accepted."""
        settings = Settings()
        _check(args, settings)
        # Chunks wait on the event loop while a thread reads the registry or commits: let it have
        # the interpreter back sooner than after Python's 5 ms.
        sys.setswitchinterval(_SWITCH_S)
        drop_combinations(engine_client)
        served.install(engine_client)
        models = state.openai_serving_models
        runtime = Runtime(
            settings,
            VllmEngine(engine_client, models, BoundsLog()),
            base=await asyncio.to_thread(identify, args.model, settings.home),
            served_name=models.base_model_paths[0].name,
            max_model_len=engine_client.model_config.max_model_len,
            max_loras=args.max_loras,
            kinds=self._kinds,
            traits=EngineTraits(
                compiler=compiler_of(engine_client, settings.grammar_timeout_s),
                fetches_media=bool(args.allowed_media_domains),
                fingerprint=state.openai_serving_chat.system_fingerprint,
                template=template_of(state),
            ),
        )
        await runtime.start()
        self._runtime = state.attune = runtime

    def _running(self, inner: Any) -> Any:
        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
            async with inner(app) as value:
                runtime: Runtime | None = getattr(app.state, "attune", None)
                if runtime is None:  # vLLM without an engine
                    yield value
                    return
                # vLLM has put its uvicorn here and its handlers of signals in place; the port is
                # not listened on yet.
                signals = EngineSignals(app.state.engine_client)
                await signals.hold()
                connections.install(app.state.server.config, runtime.settings)
                drain_s = runtime.settings.drain_s
                Ending(app.state.server, runtime.under_way, drain_s=drain_s).install()
                try:
                    yield value
                finally:
                    # vLLM deletes app.state on its way out; ours must be closed before.
                    self._runtime = None
                    await runtime.stop()
                    await signals.release()
                    exit_within(_EXIT_S)

        return lifespan


def _let_pages_in(app: FastAPI) -> None:
    """CORS by our setting, or by vLLM's flag, around every middleware: the only one there is."""
    asked: list[str] = getattr(getattr(app.state, "args", None), "allowed_origins", None) or []
    origins = parse_origins(Settings().cors_origins or ",".join(asked))
    build = app.build_middleware_stack

    theirs: object = CORSMiddleware

    def outermost() -> ASGIApp:
        # vLLM adds its own after us, and it would answer preflights in words of its own.
        app.user_middleware[:] = [it for it in app.user_middleware if it.cls is not theirs]
        return Cors(build(), origins) if origins else build()

    app.build_middleware_stack = outermost  # type: ignore[method-assign]


def _check(args: Namespace, settings: Settings) -> None:
    if not args.enable_lora:
        raise Invalid("Attune needs LoRA: start the server with --enable-lora.")
    if (args.api_server_count or 1) != 1:
        raise Invalid("Attune keeps its state in one API process: use --api-server-count 1.")
    resident = args.max_cpu_loras or args.max_loras
    if resident < settings.max_cpu_loras:
        # Otherwise vLLM evicts on its own and reads adapters from disk inside engine steps.
        raise Invalid(
            f"vLLM holds {resident} adapters but Attune expects {settings.max_cpu_loras}: start "
            f"with --max-cpu-loras {settings.max_cpu_loras} or set ATTUNE_MAX_CPU_LORAS={resident}."
        )
    if args.max_lora_rank < settings.max_lora_rank:
        raise Invalid(
            f"vLLM serves rank {args.max_lora_rank} but Attune accepts {settings.max_lora_rank}: "
            f"start with --max-lora-rank {settings.max_lora_rank} or set "
            f"ATTUNE_MAX_LORA_RANK={args.max_lora_rank}."
        )
