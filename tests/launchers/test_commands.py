"""What each launcher starts, how many processes that are, and what their workers are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from largeforge.cluster.spec import JobSpec, RaySpec
from largeforge.errors import RecipeError
from largeforge.planning import make_plan
from largeforge.recipe import extensions
from largeforge.recipe.compose import compose
from largeforge.recipe.launching import Place
from largeforge.recipe.sections.hosts import Host
from largeforge.recipe.validate import validate

PAIR = {
    "a": Host(address="node-a", gpus=2),
    "b": Host(address="node-b", internal_address="10.0.0.2", user="trainer", port=2222, python="/opt/python", gpus=4),
}
FOLDER = Path("/shared/runs/x/train")
GPUS = Place("cuda", 4, PAIR, "/usr/bin/python", FOLDER, "/home/me")
CPU = Place("cpu", 0, PAIR, "/usr/bin/python", FOLDER, "/home/me")
MODULE = ["largeforge.stages", "/shared/runs/x/train/stage.json"]


def launcher(name: str, **fields: Any) -> tuple[Any, Any]:
    module = extensions.load("launcher", name)
    return module, module.Config(**fields)


@pytest.mark.parametrize(
    ("name", "fields", "on_gpus", "on_cpu"),
    [
        ("single", {}, 1, 1),
        ("ddp", {}, 4, 1),
        ("ddp", {"num_processes": 2}, 2, 2),
        ("fsdp2", {}, 4, 1),
        ("deepspeed", {}, 4, 1),
        ("multi_node", {}, 6, 2),
        ("multi_node", {"strategy": {"name": "fsdp2", "num_processes": 2}}, 4, 4),
        ("slurm", {"nodes": 3, "gpus_per_node": 8}, 24, 3),
        ("slurm", {"nodes": 2, "strategy": {"name": "ddp", "num_processes": 2}}, 4, 4),
        ("ray", {"nodes": 3, "gpus_per_node": 8}, 24, 3),
        ("ray", {"nodes": 2, "strategy": {"name": "fsdp2", "num_processes": 2}}, 4, 4),
        ("ray", {"strategy": {"name": "single"}}, 1, 1),
    ],
)
def test_processes(name: str, fields: dict[str, Any], on_gpus: int, on_cpu: int) -> None:
    module, config = launcher(name, **fields)
    assert module.world_size(config, GPUS) == module.sharding(config, GPUS).gpus == on_gpus
    assert module.world_size(config, CPU) == on_cpu


@pytest.mark.parametrize(
    ("name", "fields", "strategy", "offload"),
    [
        ("ddp", {}, "ddp", "none"),
        ("fsdp2", {"cpu_offload": True}, "fsdp2", "all"),
        ("deepspeed", {"zero_stage": 3, "offload": "optimizer"}, "zero3", "optimizer"),
        ("multi_node", {"strategy": {"name": "deepspeed", "zero_stage": 1}}, "zero1", "none"),
        ("slurm", {"strategy": {"name": "fsdp2"}}, "fsdp2", "none"),
        ("ray", {"strategy": {"name": "fsdp2"}}, "fsdp2", "none"),
        ("ray", {"strategy": {"name": "single"}}, "none", "none"),
    ],
)
def test_plans_know_how_the_model_is_spread(name: str, fields: dict[str, Any], strategy: str, offload: str) -> None:
    module, config = launcher(name, **fields)
    found = module.sharding(config, GPUS)
    assert (found.strategy, found.offload) == (strategy, offload)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("ddp", {"num_processes": 5}), ("multi_node", {"strategy": {"name": "ddp", "num_processes": 3}})],
)
def test_two_processes_on_one_gpu_are_refused(name: str, fields: dict[str, Any]) -> None:
    module, config = launcher(name, **fields)
    with pytest.raises(RecipeError, match=r"processes take as many GPUs, and there are [24] on a machine"):
        module.world_size(config, GPUS)


def digest(*words: str) -> str:
    return make_plan(validate(compose(["+recipe=sft_qwen7b", "hardware=h100", "launcher=slurm", *words]))).digest


def test_a_job_with_another_time_limit_or_partition_continues_the_run() -> None:
    first = digest()
    assert digest("launcher.timeout_min=600", "launcher.partition=gpu", "launcher.setup=[module load cuda]") == first
    assert digest("launcher.nodes=2") != first


def test_where_a_training_runs_is_no_part_of_what_its_worker_is_told() -> None:
    fields = {"name": "fsdp2", "reshard_after_forward": False}
    told = [
        module.strategy(config)
        for module, config in (
            launcher("fsdp2", num_processes=8, reshard_after_forward=False),
            launcher("multi_node", strategy={**fields, "num_processes": 4}),
            launcher("slurm", nodes=2, partition="gpu", strategy=fields),
            launcher("ray", nodes=2, address="ray://head:10001", strategy={**fields, "num_processes": 4}),
        )
    ]
    assert told[0] == told[1] == told[2] == told[3]
    assert told[0].name == "fsdp2"


def test_one_process_is_started_without_a_launcher_of_its_own() -> None:
    module, config = launcher("single")
    assert module.command(config, MODULE, GPUS) == ["/usr/bin/python", "-m", *MODULE]


def test_processes_of_one_machine_meet_on_its_loopback() -> None:
    module, config = launcher("ddp", num_processes=2)
    words = module.command(config, MODULE, GPUS)
    assert words[:3] == ["/usr/bin/python", "-m", "torch.distributed.run"]
    assert "--nproc-per-node=2" in words
    assert "--rdzv-endpoint=127.0.0.1:0" in words
    assert words[-3:] == ["-m", *MODULE]


def test_each_host_does_its_part_and_the_first_has_the_first_process() -> None:
    module, config = launcher("multi_node", rdzv_port=1234, lost_after_s=7)
    parts = [module.part(config, MODULE, GPUS, host=name, port=5, key="k") for name in PAIR]
    for rank, (part, host) in enumerate(zip(parts, PAIR.values(), strict=True)):
        assert part.addresses == {"a": "node-a", "b": "10.0.0.2"}
        assert (part.first, part.port, part.lost_after_s) == ("a", 1234, 7)
        words = ("--rdzv-backend=static", "--nnodes=2", "--master-addr=node-a", f"--node-rank={rank}")
        assert {*words, f"--local-addr={host.reached_at}", f"--nproc-per-node={host.gpus}"} <= set(part.argv)
        assert type(part).decode(part.encode()) == part
    assert (parts[0].peers, parts[1].peers) == (["10.0.0.2"], ["node-a"])
    assert module.part(module.Config(), MODULE, GPUS, host="b", port=5, key="k").port == 5, "a free one, left out"


def test_this_machine_alone_needs_no_other() -> None:
    module, config = launcher("multi_node", strategy={"name": "ddp", "num_processes": 2})
    alone = replace(CPU, hosts={"local": Host(address="local")})
    assert module.world_size(config, alone) == 2
    assert "--rdzv-endpoint=127.0.0.1:0" in module.command(config, MODULE, alone)


def test_a_job_asks_for_what_was_given_and_leaves_the_rest_to_the_cluster() -> None:
    module, config = launcher(
        "slurm", nodes=2, partition="gpu", timeout_min=90, additional_parameters={"mail-user": "me"}
    )
    spec = JobSpec.decode(module.command(config, MODULE, GPUS)[3])
    assert (spec.nodes, spec.processes, spec.max_requeues) == (2, 4, 3)
    assert spec.parameters == {
        "name": "largeforge", "nodes": 2, "tasks_per_node": 1, "timeout_min": 90, "gpus_per_node": 4,
        "slurm_signal_delay_s": 120, "slurm_partition": "gpu", "slurm_additional_parameters": {"mail-user": "me"},
        "slurm_srun_args": ["--kill-on-bad-exit=1"],
    }  # fmt: skip


def test_ray_is_asked_for_a_part_on_each_node_with_what_its_processes_need() -> None:
    module, config = launcher("ray", nodes=2, cpus_per_process=4, address="head:6379", queue_timeout_s=5)
    words = module.command(config, MODULE, GPUS)
    assert words[:3] == ["/usr/bin/python", "-m", "largeforge.cluster.ray_training"]
    assert RaySpec.decode(words[3]) == RaySpec(
        str(FOLDER), "head:6379", tuple(MODULE), nodes=2, processes=4, cpus=4, gpus=1, placement="STRICT_SPREAD",
        queue_timeout_s=5, lost_after_s=30, workdir="/home/me",
    )  # fmt: skip
    assert RaySpec.decode(words[3]).bundle == {"CPU": 16, "GPU": 4}
    assert RaySpec.decode(module.command(config, MODULE, CPU)[3]).bundle == {"CPU": 4}


def test_one_process_is_on_one_node() -> None:
    with pytest.raises(ValueError, match="takes a strategy of several processes"):
        launcher("ray", nodes=2, strategy={"name": "single"})


def test_fsdp2_tells_accelerate_all_that_the_plan_says() -> None:
    module, config = launcher("fsdp2", cpu_offload=True, reshard_after_forward=False)
    assert module.settings(config, device="cuda", work=FOLDER).environment == {
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "false", "FSDP_OFFLOAD_PARAMS": "true",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    }  # fmt: skip


DEEPSPEED = [
    (stage, offload)
    for stage in (1, 2, 3)
    for offload in ("none", "optimizer", "all")
    if offload != "all" or stage == 3
]


@pytest.mark.parametrize(("stage", "offload"), DEEPSPEED)
def test_deepspeed_accepts_what_it_is_told(stage: int, offload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    pytest.importorskip("deepspeed", reason="DeepSpeed is an extra")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    module, config = launcher("deepspeed", zero_stage=stage, offload=offload)
    settings = module.settings(config, device="cuda", work=FOLDER)
    path = FOLDER / "deepspeed.json"
    assert settings.environment["ACCELERATE_DEEPSPEED_CONFIG_FILE"] == str(path)
    zero = json.loads(json.dumps(settings.files[path]))["zero_optimization"]
    understood = DeepSpeedZeroConfig(**zero)
    assert understood.stage == stage
    assert not (understood.model_extra or {})
    assert (understood.offload_optimizer is not None) == (offload != "none")
    assert (understood.offload_param is not None) == (offload == "all")


def test_weights_are_offloaded_by_stage_3_alone() -> None:
    with pytest.raises(ValueError, match="zero_stage"):
        launcher("deepspeed", zero_stage=2, offload="all")
