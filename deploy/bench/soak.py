"""Minutes of everything at once: mixed traffic, clients that leave, nonsense, swaps, evictions and
an adapter that learns; does memory stay where it is, and is every error explained?"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from rich.table import Table

from adapters.validate import read_base
from core.settings import Settings
from deploy.bench.adapters import write_adapter
from deploy.bench.figures import Growth
from deploy.bench.many import counted
from deploy.bench.results import figure_table, process_name, resident_bytes
from deploy.bench.setting import Served, progress, serving
from deploy.bench.stream import Answer, request_body, stream_into
from deploy.demo.users import Answered, likes, request
from deploy.demo.world.questions import ask

ADAPTERS = 20
WITH_TRAINER = ("-m", "deploy.cli.app", "serve")
PLACES = {"ATTUNE_MAX_CPU_LORAS": "8", "ATTUNE_MAX_LORAS": "4"}
SWAPPED, TAUGHT = "swapped", "taught"
TASTE = "pirate"
STREAMED, WHOLE = 4, 2
SWAP_EVERY_S = 5.0
THUMB_EVERY_S = 0.25
MOST_GROWTH = 0.05
RUNS_EXPECTED_AFTER_S = 240.0


QUESTION = {"messages": [{"role": "user", "content": "Hello?"}]}
STRANGER = {"authorization": "Bearer sk-at-aaaaaaaaaaaa-" + "a" * 48}
LONG = {"model": "base", "prompt": "a " * 20_000}
NOBODYS = {"completion_id": "chatcmpl-" + "0" * 40, "value": True}
# What is asked although there is no such thing, and the one right status of each.
NONSENSE: tuple[tuple[str, str, dict[str, Any], int], ...] = (
    ("an unknown model", "/v1/chat/completions", {"json": QUESTION | {"model": "no"}}, 404),
    ("no JSON", "/v1/chat/completions", {"data": b"{"}, 400),
    ("an unknown key", "/v1/chat/completions", {"json": {}, "headers": STRANGER}, 401),
    ("a prompt that is too long", "/v1/completions", {"json": LONG}, 400),
    ("feedback on nothing", "/v1/feedback", {"json": NOBODYS}, 404),
)


def measure(*, minutes: float = 10.0) -> dict[str, Any]:
    """Run it; `failed_because` lists what went wrong, and is empty if nothing did."""
    with (
        tempfile.TemporaryDirectory(prefix="attune-bench-") as folder,
        serving("Attune with its trainer", PLACES, command=WITH_TRAINER) as served,
    ):
        with progress.status("Pushing adapters …"):
            _push(served, Path(folder))
        began = served.metrics()
        with progress.status(f"{minutes:g} minutes of everything at once …"):
            soak, samples = asyncio.run(_soak(served, 60.0 * minutes))
        ended = served.metrics()
        runs = _runs(served)
        names = {pid: process_name(pid) for pid in samples[-1]}
        log = served.process.log.read_text(errors="replace")
    return judge(
        {
            "minutes": minutes,
            "done": dict(soak.done),
            "expected_errors": dict(soak.expected_errors),
            "unexplained": dict(soak.unexplained),
            "runs": runs,
            "memory": memory_of(samples, names),
            "tracebacks_in_the_log": log.count("Traceback (most recent call last)"),
            **counted(Growth(began, ended)),
        }
    )


def table(figures: Mapping[str, Any]) -> Table:
    """What `attune bench soak` shows."""
    rows = [(kind, f"{count:,}") for kind, count in figures["done"].items()]
    rows += [(f"expected: {kind}", f"{n:,}") for kind, n in figures["expected_errors"].items()]
    rows.append(("unexplained errors", str(sum(figures["unexplained"].values()))))
    rows.append(("loads / evictions", f"{figures['loads']:,} / {figures['evictions']:,}"))
    rows += [(f"training runs {state}", str(count)) for state, count in figures["runs"].items()]
    rows.append(("tracebacks in the log", str(figures["tracebacks_in_the_log"])))
    for name, entry in figures["memory"].items():
        early, late = (entry[f"{when}_bytes"] / 2**20 for when in ("early", "late"))
        grown = f"{early:,.0f} → {late:,.0f} ({100 * entry['growth']:+.1f}%)"
        rows.append((f"memory of {name}, MiB", grown))
    caption = "Failed: " + "; ".join(figures["failed_because"] or ["nothing"])
    return figure_table(
        f"{figures['minutes']:g} minutes of everything at once", ("", ""), rows, caption
    )


def memory_of(samples: Sequence[Mapping[int, int]], names: Mapping[int, str]) -> dict[str, Any]:
    """For each process that was there throughout, its resident bytes in the second and in the
    last fifth of the time (medians), and by which share it grew; `total` is their sum."""
    fifth = max(1, len(samples) // 5)
    early, late = samples[fifth : 2 * fifth] or samples[:1], samples[-fifth:]
    lasting = set.intersection(*(set(sample) for sample in (*early, *late)))

    def entry(pids: set[int]) -> dict[str, float]:
        was, now = (median(sum(s[pid] for pid in pids) for s in part) for part in (early, late))
        return {"early_bytes": was, "late_bytes": now, "growth": now / was - 1.0}

    entries = {f"{names.get(pid, '?')} ({pid})": entry({pid}) for pid in sorted(lasting)}
    return {**entries, "total": entry(lasting)} if lasting else {}


def judge(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures with `failed_because`."""
    reasons = [f"{count} x {kind}" for kind, count in figures["unexplained"].items()]
    reasons += [
        f"{name} grew by {100 * entry['growth']:.1f}%"
        for name, entry in figures["memory"].items()
        if entry["growth"] > MOST_GROWTH
    ]
    if figures["runs"].get("failed"):
        reasons.append(f"{figures['runs']['failed']} training runs failed")
    if 60 * figures["minutes"] >= RUNS_EXPECTED_AFTER_S and not figures["runs"].get("succeeded"):
        reasons.append("no training run was promoted")
    return figures | {"failed_because": reasons}


def _push(served: Served, folder: Path) -> None:
    base = read_base(Settings().model)
    for number in range(ADAPTERS):
        source = write_adapter(folder / str(number), base, seed=number, rank=8)
        served.push(f"fixed-{number}", [source])
    versions = [write_adapter(folder / f"s{n}", base, seed=100 + n, rank=8) for n in (1, 2)]
    served.push(SWAPPED, versions)
    learning = {"new_items": 64, "min_minority": 5}
    served.api.post("/v1/adapters", json={"name": TAUGHT, "learning": learning})


def _runs(served: Served) -> dict[str, int]:
    found = served.api.get("/v1/runs", {"adapter": TAUGHT, "limit": 200})["data"]
    return dict(Counter(str(run["state"]) for run in found))


async def _soak(served: Served, seconds: float) -> tuple[Soak, list[dict[int, int]]]:
    samples = []
    async with served.session(STREAMED + WHOLE + 8) as session:
        soak = Soak(session, time.monotonic() + seconds)
        work = [soak.streams(random.Random(number)) for number in range(STREAMED)]
        work += [soak.wholes(random.Random(50 + number)) for number in range(WHOLE)]
        work += [soak.leaves(), soak.errs(), soak.swaps(), soak.teaches()]
        tasks = [asyncio.create_task(each) for each in work]
        while soak.goes_on():
            samples.append(await asyncio.to_thread(resident_bytes, served.process.pid))
            await asyncio.sleep(1.0)
        await asyncio.gather(*tasks)
    return soak, samples


class Soak:
    """The clients, each of which goes on until the time is up, and what came of it by kind.

    `unexplained` counts what should not have happened.
    """

    def __init__(self, session: aiohttp.ClientSession, until_s: float) -> None:
        self._session = session
        self._until_s = until_s
        self.done: Counter[str] = Counter()
        self.expected_errors: Counter[str] = Counter()
        self.unexplained: Counter[str] = Counter()

    def goes_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self._until_s

    async def streams(self, rng: random.Random) -> None:
        """Streamed answers of all lengths, from the base and every adapter."""
        while self.goes_on():
            model, tokens = _model(rng), rng.choice((8, 24, 48))
            answer = Answer(0)
            body = request_body(model, ask(rng, "train").text, tokens)
            await stream_into(answer, self._session, body)
            one = len(answer.models) == 1
            named = {name.rpartition("@")[0] or name for name in answer.models} <= {model, "base"}
            if answer.failure or not answer.whole(tokens):
                self.unexplained[f"streamed: {answer.failure or 'a stream was cut off'}"] += 1
            elif not (one and named):
                self.unexplained["streamed: an answer of two versions"] += 1
            else:
                self.done["streamed"] += 1

    async def wholes(self, rng: random.Random) -> None:
        """Answers in one piece."""
        while self.goes_on():
            body = request(ask(rng, "train"), _model(rng)) | {"max_tokens": 24}
            await self._post("answered in one piece", "/v1/chat/completions", json=body)

    async def leaves(self) -> None:
        """A client that goes away in the middle of its answers."""
        rng = random.Random(70)
        while self.goes_on():
            body = request(ask(rng, "train"), _model(rng))
            body |= {"stream": True, "ignore_eos": True}
            try:
                async with self._session.post("/v1/chat/completions", json=body) as response:
                    await response.content.readany()
                    response.close()
                self.expected_errors["cancelled by the client"] += 1
            except aiohttp.ClientError as error:
                self.unexplained[f"leaving: {type(error).__name__}"] += 1
            await asyncio.sleep(0.3)

    async def errs(self) -> None:
        """A client that asks for what there is not."""
        while self.goes_on():
            for kind, path, asked, status in NONSENSE:
                await self._post(f"{kind}: {status}", path, status, **asked)
                await asyncio.sleep(0.2)

    async def swaps(self) -> None:
        """Another version of the same adapter every few seconds."""
        path, number = f"/v1/adapters/{SWAPPED}/activate", 2
        while self.goes_on():
            await asyncio.sleep(SWAP_EVERY_S)
            number = 3 - number
            await self._post("swapped", path, json={"version": number})

    async def teaches(self) -> None:
        """A user with a taste, who rates every answer of the adapter that learns."""
        rng = random.Random(90)
        while self.goes_on():
            question = ask(rng, "train")
            body = request(question, TAUGHT)
            answer = await self._post("asked to rate", "/v1/chat/completions", json=body)
            if answer is not None:
                text = answer["choices"][0]["message"]["content"] or ""
                thumb = likes(Answered(question, answer["id"], text, TAUGHT), TASTE)
                item = {"completion_id": answer["id"], "value": thumb}
                await self._post("rated", "/v1/feedback", 201, json=item)
            await asyncio.sleep(THUMB_EVERY_S)

    async def _post(
        self, kind: str, path: str, status: int = 200, **request: Any
    ) -> dict[str, Any] | None:
        """Ask; the answer if it has this status, else None. Either is counted."""
        try:
            async with self._session.post(path, **request) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.unexplained[f"{kind}: {type(error).__name__}"] += 1
            return None
        if response.status != status:
            self.unexplained[f"{kind}: {response.status}: {text[:100]}"] += 1
            return None
        (self.done if status < 400 else self.expected_errors)[kind] += 1
        found: dict[str, Any] = json.loads(text)
        return found


def _model(rng: random.Random) -> str:
    chosen = rng.random()
    if chosen < 0.2:
        return "base"
    return SWAPPED if chosen < 0.4 else f"fixed-{rng.randrange(ADAPTERS)}"
