"""`make demo`: one whole turn of the circle on the real engine, with the figures to prove it.

Ask, rate, learn, gate, swap, ask again; background clients never stop asking. The thumbs are the
only thing the system learns from, and each belongs to an answer really received.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
from rich.table import Table
from rich.text import Text

from core.errors import AttuneError, Unavailable
from core.plain import say
from deploy.demo.users import Answered, Crowd, ask_many, ask_one, likes, score
from deploy.demo.world.questions import ask
from deploy.edge.http import Server
from deploy.processes.server_process import ServerProcess
from deploy.run_progress import print_verdict, run_events, watch
from deploy.terminal import console, progress

HOME = Path(".attune-demo")
ADAPTER = "support"
HELD_OUT = 1000
THUMBS_UP, THUMBS_DOWN = 16, 48
THUMBS = THUMBS_UP + THUMBS_DOWN
MOST_QUESTIONS = 400
TASTE = "pirate"
SEED = 0
LEAST_GAIN = 0.5
MOST_FACTS_LOST = 0.02
SLOWEST_S = 60.0


def run_demo(*, keep: bool = False) -> int:
    """Run it; 0 if the loop improved the answers and nobody was disturbed, else 1."""
    shutil.rmtree(HOME, ignore_errors=True)
    server = ServerProcess(HOME, outlives=keep)
    began = time.monotonic()
    try:
        title = "Starting vLLM with Attune inside …"
        with console.status(title) as status:
            server.start(waiting=lambda s: status.update(f"{title} {s:.0f} s"))
        console.print(f"1. The server is up at {server.url}/v1 (its log: {server.log.name}).")
        key = server.key("demo")
        result = _one_turn(server, key)
        console.print(f"\nThe whole demo took {time.monotonic() - began:.0f} s.")
        if keep:
            _say_where(server, key)
        return result
    except (AttuneError, openai.OpenAIError) as error:
        cause = f" ({error.__cause__!r})" if error.__cause__ else ""
        console.print(Text.assemble(("The demo failed:", "red"), f" {error}{cause}"))
        console.print(server.tail())
        return 1
    finally:
        if not keep:
            server.stop()


def _one_turn(server: ServerProcess, key: str) -> int:
    api = Server(server.url, key)
    # No retries: a failed request must show.
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=120.0)
    api.post(
        "/v1/adapters",
        json={"name": ADAPTER, "learning": {"new_items": THUMBS, "min_minority": 5}},
    )
    rng = random.Random(SEED)
    questions = [ask(rng, "held_out") for _ in range(HELD_OUT)]
    with _bar(f"2. Asking {HELD_OUT} held-out questions", HELD_OUT) as step:
        before = ask_many(client, questions, "base", on_answer=step)
    with Crowd(client, [ADAPTER, "base", ADAPTER]) as crowd:
        figures, last_thumb_at = _rate(client, api, rng)
        run = _learn(api)
        live = _await_live(crowd, run)
        with _bar("5. Asking the same questions again", HELD_OUT) as step:
            after = ask_many(client, questions, live, on_answer=step)
    was, now = score(before, TASTE), score(after, TASTE)
    figures |= {
        "taste": TASTE,
        "seed": SEED,
        "preferred_rate_before": was.preferred,
        "preferred_rate_after": now.preferred,
        "facts_before": was.facts,
        "facts_after": now.facts,
        "held_out_answers": len(after),
        "feedback_items": THUMBS,
        "feedback_to_served_s": crowd.first_seen_at.get(live, time.time()) - last_thumb_at,
        "train_s": sum(e["data"].get("train_s", 0.0) for e in run_events(api, run["id"])),
        "background_requests": len(crowd.seen) + len(crowd.failures),
        "background_failures": len(crowd.failures),
        "background_failure_messages": crowd.failures[:5],
        "mixed_version_answers": _mixed(client, crowd),
        "live_version": live,
        "run_id": run["id"],
        "verdict": run["verdict"],
    }
    path = HOME / "report.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    _print_table(figures)
    _show_examples(before, after)
    console.print(f"Figures: {path}")
    return 0 if _passed(figures) else 1


def _rate(client: openai.OpenAI, api: Server, rng: random.Random) -> tuple[dict[str, Any], float]:
    """Ask training questions and thumb the answers received; how many, and the last thumb's time.

    The base shows the liked style by chance, about every fifth time. The user thumbs every
    answer they like and the first `THUMBS_DOWN` they do not, as people do who tire of saying no.
    """
    ups = downs = asked = 0
    title = f"3. A user who likes the {TASTE} style gives {THUMBS} thumbs"
    with _bar(title, THUMBS) as step:
        while ups + downs < THUMBS:
            if asked == MOST_QUESTIONS:
                raise Unavailable(f"Of {asked} answers only {ups} were to the user's taste.")
            asked += 1
            answered = ask_one(client, ask(rng, "train"), ADAPTER)
            thumb = likes(answered, TASTE)
            if not thumb and downs == THUMBS_DOWN:
                continue
            api.post("/v1/feedback", json={"completion_id": answered.id, "value": thumb})
            last_thumb_at = time.time()
            ups, downs = ups + thumb, downs + (not thumb)
            step()
    console.print(
        f"   {ups} up, {downs} down, of {asked} answers. Nothing else tells the system what to do."
    )
    return {"questions_asked": asked, "feedback_up": ups}, last_thumb_at


def _learn(api: Server) -> dict[str, Any]:
    """Wait for the trigger, then follow the run to its verdict."""
    deadline = time.monotonic() + 60
    while True:
        runs = api.get("/v1/runs", {"adapter": ADAPTER})["data"]
        if runs:
            break
        if time.monotonic() > deadline:
            raise Unavailable("No run started within a minute of the last thumb.")
        time.sleep(0.1)
    console.print(f"4. The trigger fired: {runs[0]['trigger']}. Training in the background:")
    run = watch(api, runs[0]["id"], timeout_s=300)
    print_verdict(run["verdict"])
    if run["state"] != "succeeded":
        raise Unavailable(f"The run ended as {run['state']}: {run['error'] or 'see the verdict'}")
    return run


def _await_live(crowd: Crowd, run: dict[str, Any]) -> str:
    """Wait until a background client has been answered by the new version; its name."""
    live = f"{ADAPTER}@{run['version']}"
    deadline = time.monotonic() + 60
    while live not in crowd.first_seen_at:
        if time.monotonic() > deadline:
            raise Unavailable(f"No client was answered by {live} within a minute.")
        time.sleep(0.02)
    console.print(f"   {live} is live in the running server; nobody was disconnected.")
    return live


def _mixed(client: openai.OpenAI, crowd: Crowd) -> int:
    """Answers that named more than one version, or whose text is not what the version they
    name says: the greedy ones are asked again of that version alone."""
    mixed = sum(seen.mixed for seen in crowd.seen)
    greedy = [seen for seen in crowd.seen if seen.greedy and not seen.mixed]
    with _bar("6. Checking that every answer came from one version", len(greedy)) as step:
        for seen in greedy:
            again = ask_one(client, seen.question, seen.version, greedy=True)
            mixed += again.text != seen.text
            step()
    return mixed


def _print_table(figures: Mapping[str, Any]) -> None:
    """Before and after on the held-out questions, then what the turn cost."""
    table = Table(title=f"{figures['held_out_answers']} held-out questions, before and after")
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for title, name in (("in the preferred style", "preferred_rate"), ("facts right", "facts")):
        old, new = figures[f"{name}_before"], figures[f"{name}_after"]
        table.add_row(title, f"{old:.1%}", f"{new:.1%}", f"{100 * (new - old):+.1f} points")
    console.print(table)
    console.print(
        f"{figures['feedback_items']} thumbs ({figures['feedback_up']} up); trained in "
        f"{figures['train_s']:.1f} s; {figures['feedback_to_served_s']:.1f} s from the last thumb "
        f"to the first answer by {figures['live_version']}.\n"
        f"{figures['background_requests']} background requests meanwhile: "
        f"{figures['background_failures']} failed, {figures['mixed_version_answers']} of mixed "
        "versions."
    )


def _passed(figures: Mapping[str, Any]) -> bool:
    """Whether the loop did what it promises; says what it did not."""
    gain = figures["preferred_rate_after"] - figures["preferred_rate_before"]
    # Shares of whole answers: rounding keeps 0.02 from being a hair over itself.
    lost = round(figures["facts_before"] - figures["facts_after"], 6)
    promises = {
        f"preferred style up by at least {LEAST_GAIN:.0%}": gain >= LEAST_GAIN,
        f"facts down by at most {MOST_FACTS_LOST:.0%}": lost <= MOST_FACTS_LOST,
        "no background request failed": figures["background_failures"] == 0,
        "no answer of mixed versions": figures["mixed_version_answers"] == 0,
        f"served within {SLOWEST_S:.0f} s": figures["feedback_to_served_s"] < SLOWEST_S,
    }
    for promise, kept in promises.items():
        if not kept:
            console.print(Text.assemble(("Not kept:", "red"), f" {promise}"))
    return all(promises.values())


def _show_examples(before: list[Answered], after: list[Answered]) -> None:
    for old, new in list(zip(before, after, strict=True))[:3]:
        console.print(f"\n  {old.question.text}", style="bold")
        console.print(f"    before: {old.text}")
        console.print(f"    after:  {new.text}")
    console.print()


def _say_where(server: ServerProcess, key: str) -> None:
    console.print(f"\nThe server stays up at {server.url}/v1 (stop it with: kill {server.pid}).")
    body = json.dumps(
        {"model": ADAPTER, "messages": [{"role": "user", "content": "What is on today?"}]}
    )
    say(
        f"export ATTUNE_URL={server.url} ATTUNE_API_KEY={key}\n"
        f'curl {server.url}/v1/chat/completions -H "Authorization: Bearer $ATTUNE_API_KEY" '
        f"-H 'Content-Type: application/json' -d '{body}'\n"
        f"attune adapters show {ADAPTER}"
    )


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar with a title, advanced by calling what `with` yields."""
    with progress("{task.completed:.0f}/{task.total:.0f}") as shown:
        task = shown.add_task(title, total=total)
        yield lambda: shown.advance(task)
