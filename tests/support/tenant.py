"""A tenant of a real server, as tests use it: two clients and a way to push adapters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from deploy.processes.server_process import ServerProcess


@dataclass(frozen=True)
class Tenant:
    """A fresh tenant with a key for everything."""

    server: ServerProcess
    name: str
    key: str

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.server.url}/v1", api_key=self.key, max_retries=0, timeout=120
        )

    @property
    def http(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.server.url, headers={"authorization": f"Bearer {self.key}"}, timeout=120
        )

    def push(self, name: str, folder: Path, **fields: str) -> httpx.Response:
        """Upload a PEFT folder as the next version of an adapter, made if it does not exist."""
        with self.http as http:
            http.post("/v1/adapters", json={"name": name, "learning": {"exploration": 0}})
            return http.post(
                f"/v1/adapters/{name}/versions",
                files=[
                    ("file", (file, (folder / file).read_bytes()))
                    for file in ("adapter_config.json", "adapter_model.safetensors")
                ],
                data=fields,
            )

    def ask(self, model: str, question: str, **options: Any) -> Any:
        """One chat completion; greedy and short unless told otherwise."""
        options = {"temperature": 0.0, "max_tokens": 32, **options}
        return self.openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], **options
        )
