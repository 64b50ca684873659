"""A real server and its trainer, started on another base model than the one adapters are for."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import openai
import pytest
from safetensors.torch import load_file, save_file
from support.tenant import Tenant

from adapters.validate import read_base
from core.errors import Unavailable
from core.settings import SHIPPED_MODEL
from deploy.bench.adapters import write_adapter
from deploy.processes.server_process import ServerProcess

QUESTION = "Which pier does the ferry to Morva leave from in June?"


def other_weights(folder: Path) -> Path:
    """The shipped model's shape, with one row of its weights a little larger."""
    shutil.copytree(SHIPPED_MODEL, folder)
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values()))[0] += 0.01
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def started(home: Path, model: Path, **environment: str) -> ServerProcess:
    process = ServerProcess(home, environment={"ATTUNE_MODEL": str(model), **environment})
    process.start()
    return process


def test_it_is_refused_in_one_line_until_the_base_is_meant_to_change(tmp_path: Path) -> None:
    home, other = tmp_path / "home", other_weights(tmp_path / "other")
    server = started(home, Path(SHIPPED_MODEL))
    tenant = Tenant(server, "acme", server.key("acme"))
    folder = write_adapter(tmp_path / "adapter", read_base(str(SHIPPED_MODEL)), seed=1, rank=4)
    try:
        assert tenant.push("support", folder).status_code == 201
        assert tenant.ask("support", QUESTION).model == "support@1"
    finally:
        server.stop()
    with pytest.raises(Unavailable):
        started(home, other)
    told = [line for line in server.log.read_text().splitlines() if "made for the base" in line]
    assert len(told) == 1
    assert told[0].startswith("error: ")
    (digest,) = re.findall(r"ATTUNE_ACCEPT_BASE=([0-9a-f]{12}) ", told[0])
    server = started(home, other, ATTUNE_ACCEPT_BASE=digest)
    tenant = Tenant(server, "acme", tenant.key)
    try:
        assert tenant.ask("support", QUESTION).model == "base"
        with pytest.raises(openai.ConflictError) as refused:
            tenant.ask("support@1", QUESTION)
        assert refused.value.code == "other_base"
        assert tenant.push("support", folder).status_code == 201
        assert tenant.ask("support", QUESTION).model == "support@2"
    finally:
        server.stop()
