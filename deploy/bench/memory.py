"""The memory and the processor time of a server's processes."""

from collections.abc import Iterator

import psutil


def resident_bytes(server: int) -> dict[int, int]:
    """Resident bytes by process id, of the server with this process id and its descendants."""
    return {process.pid: memory for process, memory, _ in _usage(server) if memory}


def processor_s(server: int) -> float:
    """Seconds of processor time that the same processes have used so far."""
    return sum(seconds for *_, seconds in _usage(server))


def _usage(server: int) -> Iterator[tuple[psutil.Process, int, float]]:
    root = psutil.Process(server)
    for process in [root, *root.children(recursive=True)]:
        try:
            with process.oneshot():
                times = process.cpu_times()
                yield process, process.memory_info().rss, times.user + times.system
        except psutil.NoSuchProcess:
            continue  # ended meanwhile


def process_name(pid: int) -> str:
    """What the process calls itself, or the end of its command line."""
    try:
        text = " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return str(pid)
    for part, name in (
        ("EngineCore", "engine"),
        ("VLLM::Worker", "worker"),
        ("resource_tracker", "resource tracker"),
        (" trainer", "trainer"),
        (" serve", "API server"),
    ):
        if part in text:
            return name
    return text[-30:] or str(pid)
