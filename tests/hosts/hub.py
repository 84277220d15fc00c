"""A model hub where hosts reach it, with one model: `python -m tests.hosts.hub ADDRESS`.

On its standard input `damage` and `heal` are told it, and `commit VERSION` makes a new commit.
"""

from __future__ import annotations

import sys

from tests.e2e.hub_server import model_hub

REPO = "acme/m"


def files(version: str) -> dict[str, bytes]:
    """Return a model as the stand-in for vLLM takes it; what is no text and no safetensors must not be fetched."""
    weights = f"weights of {version}".encode() * 200_000
    return {
        "config.json": b"{}", "model.safetensors": weights, "version.txt": version.encode(), "evil.py": b"import os",
        "pytorch_model.bin": b"pickled",
    }  # fmt: skip


def main(address: str) -> None:
    """Serve until the input ends."""
    with model_hub(address) as hub:
        hub.commit(REPO, files("hub-1"))
        print(hub.address, flush=True)
        for line in sys.stdin:
            word, _, version = line.strip().partition(" ")
            if word == "commit":
                hub.commit(REPO, files(version))
            else:
                hub.damages = word == "damage"
            print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
