"""Run by the device's own Python with its network cut off: serve, ask, rate, kill, look again.

Only the standard library. Arguments: DIR, and whether the network is cut ("cut").
Prints one JSON object with what it saw; any failure is an exception.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from typing import Any

ATTUNE = os.path.join(os.path.dirname(sys.executable), "attune")
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def main(folder: str, network: str) -> dict[str, Any]:
    if network == "cut":
        raise_loopback()
    seen: dict[str, Any] = {"outside": reach_outside()}
    lines = "Where does the otter live in February?\n/up\n/quit\n"
    chat = [ATTUNE, "edge", "chat", folder, "--adapter", "support", "--temperature", "0"]
    done = subprocess.run(chat, input=lines, capture_output=True, text=True, timeout=60)
    seen["chat"] = [done.returncode, done.stdout, done.stderr]

    server, url = serve(folder)
    acknowledged = []
    for model in ("base", "support", "support@1"):
        answer = post(url, "chat/completions", ask(model))
        acknowledged.append(answer["id"])
        post(url, "feedback", {"completion_id": answer["id"], "value": True})
        seen[model] = [answer["model"], answer["choices"][0]["message"]["content"]]
    # Killed while an answer is under way: what was acknowledged before must be there after.
    stream = request(url, "chat/completions", {**ask("base"), "stream": True, "temperature": 2})
    reader = threading.Thread(target=swallow, args=(stream,))
    reader.start()
    server.send_signal(signal.SIGKILL)
    server.wait(30)
    reader.join(30)

    server, url = serve(folder)
    for answer_id in acknowledged:
        post(url, "feedback", {"completion_id": answer_id, "value": False, "name": "thumb"})
    server.terminate()
    server.wait(30)
    info = subprocess.run(
        [ATTUNE, "edge", "info", folder, "--json"], capture_output=True, text=True, timeout=60
    )
    seen["info"] = json.loads(info.stdout)
    return seen


def raise_loopback() -> None:
    """A new network namespace has a loopback device that is down."""
    with socket.socket() as any_socket:
        name = b"lo".ljust(16, b"\0")
        flags = fcntl.ioctl(any_socket, SIOCGIFFLAGS, name + bytes(16))
        (value,) = struct.unpack_from("h", flags, 16)
        up = name + struct.pack("h", value | IFF_UP) + bytes(14)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, up)


def reach_outside() -> str:
    """What happens to a packet for another machine; no packet is answered or waited for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError as error:
            return os.strerror(error.errno or 0)
    return "reachable"


def serve(folder: str) -> tuple[subprocess.Popen[str], str]:
    command = [ATTUNE, "edge", "serve", folder, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    atexit.register(server.kill)  # also where the drill fails
    assert server.stdout is not None
    line = server.stdout.readline().strip()
    return server, line.rpartition(" ")[2]


def ask(model: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Where does the otter live in February?"}]
    return {"model": model, "messages": messages, "temperature": 0}


def request(url: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"content-type": "application/json"}
    data = json.dumps(body).encode()
    return urllib.request.urlopen(
        urllib.request.Request(f"{url}/{path}", data, headers), timeout=60
    )


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    with request(url, path, body) as response:
        found: dict[str, Any] = json.loads(response.read())
        return found


def swallow(stream: Any) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        stream.read()


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
