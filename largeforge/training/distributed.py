"""Several processes that train one model: what accelerate is told, and what processes agree on.

accelerate 1.15 knows FSDP2 and DeepSpeed on accelerators only; on a CPU it silently trains as plain DDP. Both work
there over gloo once it is told (`_let_cpu`), which is how they are tested. Whether the processes became what the
plan said is verified in `wrapping.py`; nothing here trusts a setting.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from largeforge.artifacts import write_json
from largeforge.errors import StageError
from largeforge.recipe import extensions

if TYPE_CHECKING:
    from pathlib import Path

    from largeforge.recipe.base import Extension

_kept: list[Any] = []
"""What must live as long as the process: transformers holds DeepSpeed's configuration weakly."""


def prepare(launcher: Extension, *, device: str, precision: str, world_size: int, work: Path) -> None:
    """Make this process one of `world_size` that train together; called before torch is imported.

    Raises StageError when the launcher started another number of processes.
    """
    _require_processes(world_size)
    _share_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if device == "cpu":
        # `cpu`, since accelerate makes it `cpu:0` among several processes, where torch.load cannot restore to
        os.environ.update(ACCELERATE_USE_CPU="true", ACCELERATE_TORCH_DEVICE="cpu")
    settings = extensions.load("launcher", launcher.name).settings(launcher, device=device, work=work)
    for path, content in settings.files.items():
        write_json(path, content)
    os.environ.update(settings.environment)
    if "LOCAL_RANK" not in os.environ:
        return
    if device == "cpu":
        _let_cpu(launcher.name)
    _join(device)
    if launcher.name == "deepspeed":
        _announce_deepspeed(next(iter(settings.files.values())), precision)


def loading_device(launcher: str, device: str) -> str:
    """Return where the weights are loaded to: the host's memory where they are divided only afterwards."""
    return "cpu" if launcher in ("fsdp2", "deepspeed") else device


def is_first() -> bool:
    """Tell whether this is the process that writes and reports."""
    return os.environ.get("RANK", "0") == "0"


def from_first(value: Any) -> Any:
    """Return the first process's value in all of them: what depends on a clock or a disk must be decided once."""
    if not are_several():
        return value
    import torch.distributed

    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def highest(value: int) -> int:
    """Return the highest value of all processes: they must decide the same; no GPU is waited for."""
    if not are_several():
        return value
    import torch

    told = torch.tensor(value)
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX, group=_host_group())
    return int(told)


@cache
def _host_group() -> Any:
    import torch.distributed

    return torch.distributed.new_group(backend="gloo")


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if are_several():
        import torch.distributed

        torch.distributed.barrier()


def are_several() -> bool:
    """Tell whether this is one of several processes that have met."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    import torch.distributed

    return bool(torch.distributed.is_initialized())


def _require_processes(world_size: int) -> None:
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if found != world_size:
        raise StageError(f"the launcher started {found} processes where the plan has {world_size}")


def _share_threads(processes: int) -> None:
    """Divide the stage's threads among the processes of this machine."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if processes > 1 and name in os.environ:
            os.environ[name] = str(max(1, int(os.environ[name]) // processes))


def _join(device: str) -> None:
    """Meet the other processes now, since loading the model already depends on which of them this is."""
    from accelerate import PartialState

    if device == "cuda":
        import torch

        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    PartialState(cpu=device == "cpu")


def _announce_deepspeed(configuration: dict[str, Any], precision: str) -> None:
    """Let transformers divide the weights of stage 3 while it reads them, before there is a trainer.

    Sizes of batches are placeholders: the trainer makes DeepSpeed's configuration anew with its own.
    """
    from transformers.integrations import HfDeepSpeedConfig

    sizes = {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": precision == "bf16"}}
    known = {key: value for key, value in configuration.items() if value != "auto"}
    _kept.append(HfDeepSpeedConfig({**known, **sizes}))


def _let_cpu(launcher: str) -> None:
    """Make accelerate shard on a CPU as it does on accelerators: it knows neither FSDP2 nor DeepSpeed there."""
    if launcher not in ("fsdp2", "deepspeed"):
        return
    from accelerate import state

    original = state.AcceleratorState.__init__

    def initialize(self: Any, mixed_precision: str | None = None, *given: Any, **named: Any) -> None:
        original(self, mixed_precision, *given, **named)
        if self.distributed_type is not state.DistributedType.MULTI_CPU:
            return
        if launcher == "fsdp2" and named.get("fsdp_plugin") is not None:
            self.distributed_type = state.DistributedType.FSDP
            self.fsdp_plugin = named["fsdp_plugin"]
            if self._mixed_precision != "no":
                self.fsdp_plugin.set_mixed_precision(self._mixed_precision)
        if launcher == "deepspeed" and named.get("deepspeed_plugin") is not None:
            plugins = named["deepspeed_plugin"]
            self.deepspeed_plugins = plugins if isinstance(plugins, dict) else {"default": plugins}
            self.distributed_type = state.DistributedType.DEEPSPEED
            first = next(iter(self.deepspeed_plugins.values()))
            first.set_mixed_precision(self._mixed_precision)
            first.select(_from_accelerator_state=True)
            self._mixed_precision = "no"
        state.PartialState._shared_state["distributed_type"] = self.distributed_type

    state.AcceleratorState.__init__ = initialize
    if launcher == "deepspeed":  # shared memory instead of gloo, compiled at every first run
        import_module("deepspeed.comm.torch").build_shm_op = lambda: None  # type: ignore[attr-defined]
