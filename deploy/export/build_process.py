"""The child process that runs onnxruntime-genai's model builder, with the builder's arguments.

Owns ending together with its parent: when the parent's end of stdin closes, so does this process.
Must not know what the options mean.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading

_BUILDER = "onnxruntime_genai.models.builder"


def main() -> None:
    """Run the builder with this process's arguments; errors and exit status are the builder's."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv[0] = _BUILDER
    runpy.run_module(_BUILDER, run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    # A killed exporter must not leave a builder that goes on writing into its staging folder.
    # Not through sys.stdin, whose lock must be free when the interpreter shuts down.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
