"""What a prepared trainer is, is compared with what the plan said: on real wrappers, in a process group of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from largeforge.errors import StageError
from largeforge.launchers import ddp, fsdp2, single
from largeforge.training import distributed, wrapping


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class Engine:
    """What of DeepSpeed's engine is looked at."""

    def __init__(self, stage: int, module: Any):
        self.stage, self.module = stage, module

    def zero_optimization_stage(self) -> int:
        return self.stage

    def bfloat16_enabled(self) -> bool:
        return False

    def fp16_enabled(self) -> bool:
        return False


def net(dtype: torch.dtype = torch.float32) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)).to(dtype)


def sharded(dtype: torch.dtype = torch.float32) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(net(dtype), mesh=init_device_mesh("cpu", (1,)))


def trainer(wrapped: Any, model: Any = None, *, processes: int = 1, device: str = "cpu", mixed: str = "no") -> Any:
    accelerator = SimpleNamespace(num_processes=processes, device=torch.device(device), mixed_precision=mixed)
    return SimpleNamespace(accelerator=accelerator, model_wrapped=wrapped, model=wrapped if model is None else model)


def verify(found: Any, launcher: str, **changed: Any) -> None:
    given = {"launcher": {"name": launcher, "zero_stage": 3}, "world_size": 1, "device": "cpu", "precision": "fp32"}
    wrapping.verify(found, **{**given, **changed})


def test_what_was_planned_passes() -> None:
    model = net()
    verify(trainer(model), "single")
    verify(trainer(torch.nn.parallel.DistributedDataParallel(model), model), "ddp")
    verify(trainer(sharded()), "fsdp2")
    verify(trainer(sharded(), mixed="bf16"), "fsdp2", precision="bf16")  # accelerate keeps what it trains in fp32
    verify(trainer(net(torch.bfloat16), mixed="bf16"), "single", precision="bf16")


@pytest.mark.parametrize(
    ("launcher", "changed", "words"),
    [
        ("ddp", {}, "DDP, found no wrapper"),
        ("fsdp2", {}, "FSDP2, found no wrapper"),
        ("deepspeed", {}, "DeepSpeed ZeRO-3, found no wrapper"),
        ("single", {"world_size": 2}, "2 processes, found 1"),
        ("single", {"device": "cuda"}, "device cuda, found cpu"),
        ("single", {"precision": "bf16"}, "computing in bf16, found fp32; weights in bf16, found fp32"),
    ],
)
def test_each_silent_fallback_is_found(launcher: str, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(StageError, match=words):
        verify(trainer(net()), launcher, **changed)


def test_ddp_in_place_of_fsdp2_is_found() -> None:
    model = net()
    with pytest.raises(StageError, match="FSDP2, found DDP"):
        verify(trainer(torch.nn.parallel.DistributedDataParallel(model), model), "fsdp2")


def test_a_stage_that_is_not_the_planned_one_is_found() -> None:
    model = net()
    with pytest.raises(StageError, match="DeepSpeed ZeRO-3, found DeepSpeed ZeRO-2"):
        verify(trainer(Engine(2, model), model), "deepspeed")
    with pytest.raises(StageError, match="found DeepSpeed ZeRO-3 with weights that are not divided"):
        verify(trainer(Engine(3, model), model), "deepspeed")


def test_weights_that_stayed_whole_are_found() -> None:
    model = sharded()
    model.append(torch.nn.Linear(4, 4))
    with pytest.raises(StageError, match="FSDP2, found FSDP2 with 4 of 6 weights divided"):
        verify(trainer(model), "fsdp2")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    for name in ("WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("clean")
def test_too_few_processes_end_the_worker_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="started 1 processes where the plan has 2"):
        distributed.prepare(ddp.Config(), device="cpu", precision="fp32", world_size=2, work=tmp_path)


@pytest.mark.usefixtures("clean")
def test_processes_share_the_threads_of_their_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    distributed.prepare(single.Config(), device="cpu", precision="fp32", world_size=1, work=tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.usefixtures("clean")
def test_accelerate_is_told_before_it_is_imported(tmp_path: Path) -> None:
    distributed.prepare(fsdp2.Config(), device="cpu", precision="fp32", world_size=1, work=tmp_path)
    assert (os.environ["ACCELERATE_USE_FSDP"], os.environ["ACCELERATE_USE_CPU"]) == ("true", "true")
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"


def test_one_process_agrees_with_itself() -> None:
    assert distributed.from_first(3) == 3
    distributed.wait_for_all()
    assert distributed.is_first()
