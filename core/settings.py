"""Settings: every knob, its unit and its default, read from ATTUNE_* variables.

The command line writes its flags into the environment, so that the server, the engine's
processes and the trainer all read the same settings.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "deploy" / "model"


class Settings(BaseSettings):
    """All of Attune's settings; vLLM's own stay vLLM's own flags."""

    model_config = SettingsConfigDict(env_prefix="ATTUNE_", extra="ignore")

    home: Path = Field(
        default=Path(".attune"),
        description="Folder of the database, the artifacts and runs under way.",
    )
    database_url: str = Field(
        default="",
        description="`sqlite:///…` or `postgresql://…`; empty: SQLite in the home.",
    )
    artifacts_url: str = Field(
        default="", description="Folder or fsspec URL of the artifacts; empty: in the home."
    )
    model: str = Field(
        default=str(SHIPPED_MODEL), description="Base model: Hugging Face id or path."
    )
    accept_base: str = Field(
        default="",
        description="Digest (12 digits or more) of a base that may replace the former; empty: none "
        "may.",
    )
    served_name: str = Field(default="base", description="Name clients use for the base model.")

    server_id: str = Field(
        default="",
        max_length=40,
        description="Name of this server in load reports; empty: the host's name.",
    )
    max_body_bytes: int = Field(default=2_000_000, description="Largest JSON request body.")
    max_upload_bytes: int = Field(
        default=512_000_000, description="Largest adapter upload, all files."
    )
    upload_check_s: float = Field(
        default=60.0, gt=0, description="Longest check of one adapter upload."
    )
    upload_checks: int = Field(
        default=2, ge=1, description="Uploads checked at once, at most one of each tenant."
    )
    tenant_calls: int = Field(
        default=8,
        ge=1,
        description="Calls of Attune's own routes at work at once for one tenant; others wait.",
    )
    max_lora_rank: int = Field(
        default=16,
        description="Largest rank accepted; also the engine's buffers (rounded up to a size vLLM "
        "has).",
    )
    max_loras: int = Field(default=8, description="Distinct adapters in one engine step.")
    max_cpu_loras: int = Field(
        default=64, description="Adapters resident in the engine's host memory."
    )
    grammar_timeout_s: float = Field(
        default=2.0,
        gt=0,
        description="Longest a schema, grammar or set of tools may take to compile.",
    )
    slot_patience_s: float = Field(
        default=1.0,
        gt=0,
        description="A request that has waited this long for a slot gets the next that drains.",
    )
    sync_interval_s: float = Field(
        default=0.05, description="How often a server looks at the registry."
    )
    publish_interval_s: float = Field(
        default=0.1, description="Least time between two loads of new live versions."
    )
    header_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="Time a request's head may take to come, from connecting on.",
    )
    body_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Each time this long, a body must bring 1,000 bytes a second, or end.",
    )
    reader_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="A client that takes nothing of its answer for this long is cut off.",
    )
    max_connections_per_address: int = Field(
        default=1000,
        ge=0,
        description="Open connections of one address (IPv6: /64); 0: any (behind a proxy).",
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        description="Time running answers get to end when the server is told to stop.",
    )
    commit_wait_s: float = Field(
        default=0.0, description="Extra wait to gather answers into one commit."
    )
    keep_tokens: bool = Field(
        default=True,
        description="Whether the tokens of every answer are kept, to learn just what was served.",
    )
    database_wait_s: float = Field(
        default=10.0,
        gt=0,
        description="How long anybody waits for a database in trouble before the answer is a 503.",
    )
    metrics_token: str = Field(
        default="", description="Bearer token for `/metrics`; empty: loopback only."
    )
    cors_origins: str = Field(
        default="",
        description="Origins whose pages may call here, comma-separated, or `*`; empty: none.",
    )
    request_secret: str = Field(
        default="",
        description="Key that signs completion ids, alike on all servers; empty: in the database.",
    )

    worker_id: str = Field(
        default="local",
        description="Name of this trainer, kept over restarts; each of several needs its own.",
    )
    trainer_poll_s: float = Field(default=0.25, description="How often the trainer looks for work.")
    trainer_threads: int = Field(
        default=0,
        ge=0,
        description="Torch threads of the trainer; 0: all cores while others are idle, else one.",
    )
    trainer_device: str = Field(
        default="",
        pattern=r"^(cpu|cuda(:\d+)?)?$",
        description="Where the trainer works: `cpu`, `cuda`, `cuda:1`; empty: a GPU, if any.",
    )
    trainer_memory_gib: float = Field(
        default=0.0,
        ge=0,
        description="Most memory the trainer takes on its device; 0: what is free.",
    )
    trainer_4bit: bool = Field(
        default=False,
        description="Hold the base in 4 bits in the trainer (QLoRA); needs a GPU and bitsandbytes.",
    )
    trainer_max_s: float = Field(
        default=86_400.0, gt=0, description="A training that would take longer is not begun."
    )
    trainer_nice: int = Field(default=2, description="Priority the trainer gives up to serving.")
    train_rank: int = Field(
        default=16,
        ge=1,
        description="LoRA rank of trained adapters, at most `ATTUNE_MAX_LORA_RANK`.",
    )
    train_learning_rate: float | None = Field(
        default=None, gt=0, description="Peak learning rate; empty: by the model's size."
    )
    train_beta: float | None = Field(
        default=None, gt=0, description="KTO's and DPO's beta; empty: 1."
    )
    train_steps: int | None = Field(
        default=None, ge=1, description="Most optimizer steps; empty: 40, or all examples once."
    )
    train_batch_size: int = Field(default=8, ge=2, description="Examples per optimizer step.")
    train_max_length: int = Field(
        default=512, ge=16, description="Longer examples (tokens) are left out and counted."
    )
    learn_max_items: int = Field(
        default=100_000,
        ge=1,
        description="Feedback items of an adapter that are looked at, the newest ones.",
    )
    gate_kl_cap: float = Field(
        default=2.0,
        gt=0,
        description="KL to the base the gate allows an answer of any length, nats.",
    )
    gate_kl_token_cap: float = Field(
        default=0.05, ge=0, description="KL it allows beyond, for each token of the answer, nats."
    )
    gate_perplexity_rise: float = Field(
        default=0.03, gt=0, description="How much worse neutral text may be read; 0.03 is 3 %."
    )
    regression_suite: str = Field(
        default="",
        description="The gate's suite, JSONL; empty: the model's `regression.jsonl`, or ours.",
    )

    def resolved_database_url(self) -> str:
        """The database URL, by default a SQLite file in `home`."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'attune.db'}"

    def resolved_artifacts_url(self) -> str:
        """Where artifacts live, by default a folder in `home`."""
        return self.artifacts_url or str(self.home.resolve() / "artifacts")

    def resolved_regression_suite(self) -> Path | None:
        """The gate's regression suite: the configured file, else the one beside the model."""
        if self.regression_suite:
            return Path(self.regression_suite)
        beside = Path(self.model) / "regression.jsonl"
        return beside if beside.is_file() else None
