"""The `attune` command's first step: which of the two installs is asked for.

`attune edge …` runs from the small `edge` extra and must load nothing of the server; everything
else is the full command line. Knows neither's commands.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

EDGE = "edge"


def main() -> None:
    """Hand the command line to the device's commands or to the server's.

    Where the packages of the one asked for are missing, exit status 1 and the extra to install.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name the terminal's encoding lacks is no crash
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:]
    extra = EDGE if arguments[:1] == [EDGE] else "server"
    try:
        if extra == EDGE:
            from deploy.edge import cli as device

            sys.exit(device.main(arguments[1:]))
        from deploy.cli import app

        app.main()
    except ModuleNotFoundError as error:
        sys.exit(_missing(error, extra, arguments))


def _missing(error: ModuleNotFoundError, extra: str, arguments: list[str]) -> str:
    package = (error.name or "?").partition(".")[0]
    if package in ("core", "adapters", "feedback", "trainer", "server", "deploy"):
        raise error  # not a package that an extra would bring
    asked = " ".join(["attune", *arguments[:1]])
    hint = "" if extra == EDGE else " Without it there is `attune edge --help`."
    return (
        f"error: `{asked}` needs the package {package!r}, which is not installed. "
        f"Install the extra that brings it: pip install 'attune[{extra}]'.{hint}"
    )


if __name__ == "__main__":
    main()
