"""Stands for `deploy.export.process`: as quick as can be, as odd as the test's `mode` file says.

Run as `python fake_exporter.py MODE_FILE`. Modes: ok, hang (waits to be ended), low (below the
threshold), full (no room on the disk), crash. What it was asked is appended to MODE_FILE.asked.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from deploy.edge.manifest import (  # noqa: E402
    ADAPTER_FILE,
    Manifest,
    ModelEntry,
    digest_of_files,
    entries_of,
    read_manifest,
    write_manifest,
)


def main() -> None:
    mode_file = Path(sys.argv[1])
    asked = json.load(sys.stdin)
    with Path(f"{mode_file}.asked").open("a") as log:
        log.write(json.dumps(asked) + "\n")
    say(stage="Building the graph", share=0.3)
    mode = mode_file.read_text().strip()
    if mode == "hang":
        while True:
            signal.pause()
    if mode == "crash":
        raise RuntimeError("the builder stumbled")
    if mode == "full":
        say(error="The disk of the trainer is full.", kind="Unavailable", code="disk_full")
        return
    say(stage="Verifying", share=0.9)
    if mode == "low":
        say(
            error="argmax_agreement 0.81 (at least 0.97).", kind="Conflict", code="export_not_equal"
        )
        return
    write(asked)
    say(done=True)


def write(asked: dict[str, Any]) -> None:
    job, out = asked["job"], Path(asked["out"])
    adapter = job["adapter"] or {"name": None, "number": None, "digest": None}
    common: dict[str, Any] = {
        "precision": job["precision"],
        "tools": {},
        "created_at": "2026-11-21T00:00:00+00:00",
        "verification": None,
        "model": ModelEntry(
            name=f"{adapter['name']}@{adapter['number']}" if job["adapter"] else "base",
            adapter=adapter["name"],
            version=adapter["number"],
            digest=adapter["digest"],
            base=job["model_name"],
            base_digest="b" * 64,
            architecture="LlamaForCausalLM",
            context_length=64,
        ),
    }
    if asked["base"] is not None:
        out.mkdir()
        (out / ADAPTER_FILE).write_bytes(b"adapter " * adapter["number"])
        base = read_manifest(Path(asked["base"]))
        extra = {"kind": "adapter", "base_model_digest": base.model_digest, "rank": 4}
        write_manifest(out, Manifest(files=entries_of(out), **extra, **common))
        return
    (out / "model").mkdir(parents=True)
    (out / "model" / "model.onnx").write_bytes(f"graph of {adapter['name']}".encode() * 1000)
    (out / "model" / "tokenizer.json").write_bytes(b"{}")
    files = entries_of(out)
    kind = "merged" if job["layout"] == "merged" else "base"
    whole = {"kind": kind, "layout": job["layout"], "model_digest": digest_of_files(files)}
    write_manifest(out, Manifest(files=files, **whole, **common))


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
