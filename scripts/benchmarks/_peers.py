"""Other toolkits, each in an environment of its own, and what to type to do the same with them.

The same is: print the help, and find a misspelt learning rate in a configuration for LoRA training of
Qwen2.5 7B. Nothing is downloaded but the packages: all of them find the mistake before the model.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_CONFIG = {
    "oumi": """\
model: {model_name: Qwen/Qwen2.5-7B-Instruct}
data: {train: {datasets: [{dataset_name: text_sft, dataset_path: rows.jsonl}]}}
training: {trainer_type: TRL_SFT, learning_rte: 1.0e-4, output_dir: out}
""",
    "axolotl": """\
base_model: Qwen/Qwen2.5-7B-Instruct
datasets: [{path: rows.jsonl, type: chat_template}]
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
sequence_len: 2048
micro_batch_size: 1
gradient_accumulation_steps: 16
num_epochs: 2
optimizer: adamw_torch_fused
learning_rte: 0.0002
output_dir: out
""",
    "llamafactory": """\
model_name_or_path: Qwen/Qwen2.5-7B-Instruct
stage: sft
do_train: true
finetuning_type: lora
dataset: rows
template: qwen
cutoff_len: 2048
learning_rte: 1.0e-4
output_dir: out
""",
}


@dataclass(frozen=True)
class Packages:
    """What is installed into an environment of its own."""

    name: str
    requirements: tuple[str, ...]


@dataclass(frozen=True)
class Peer(Packages):
    """One toolkit: its packages, and its commands relative to the `bin` folder of its environment."""

    help: tuple[str, ...]
    check: tuple[str, ...]
    """Reads `<name>.yaml` in the working directory, which has a misspelt key."""
    complaint: str
    """What its output must have when it has found the mistake."""

    @property
    def config(self) -> str:
        """The configuration with a mistake."""
        return _CONFIG[self.name]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("oumi", ("oumi==0.9",), ("oumi", "--help"), ("oumi", "train", "-c", "oumi.yaml"), "learning_rte"),
        Peer(
            "axolotl",
            ("axolotl==0.19.0",),
            ("axolotl", "--help"),
            ("axolotl", "preprocess", "axolotl.yaml"),
            "learning_rate",  # it takes any key, and then misses the one that is required
        ),
        Peer(
            "llamafactory",
            # Left to itself pip takes a torch that torchaudio was not built for, and nothing but `help` starts.
            ("llamafactory==0.9.5", "torch==2.11.0", "torchaudio==2.11.0", "torchvision==0.26.0"),
            ("llamafactory-cli", "help"),
            ("llamafactory-cli", "train", "llamafactory.yaml"),
            "learning_rte",
        ),
    )
}


def cache_folder() -> Path:
    """Return where environments are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "largeforge" / "peers"


def install(peer: Packages, folder: Path) -> Path:
    """Return the `bin` folder of an environment, made when it is missing or has other packages.

    Raises RuntimeError with pip's last words when it cannot be installed.
    """
    home = folder / peer.name
    marker, wanted = home / "installed.txt", "\n".join(peer.requirements)
    if not marker.is_file() or marker.read_text() != wanted:
        print(f"installing {peer.name} into {home}: minutes, and for toolkits gigabytes", file=sys.stderr)
        _run([sys.executable, "-m", "venv", str(home)], peer.name)
        if peer.requirements:
            _run([str(home / "bin" / "pip"), "install", "--quiet", *peer.requirements], peer.name)
        marker.write_text(wanted)
    return home / "bin"


def _run(command: list[str], name: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        lines = (ended.stderr or ended.stdout).strip().splitlines()
        raise RuntimeError(f"{name} cannot be installed: {' | '.join(lines[-3:])}")


def environment() -> dict[str, str]:
    """Return variables under which no toolkit asks the network or reports its use."""
    return {
        **os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "AXOLOTL_DO_NOT_TRACK": "1",
        "OUMI_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
