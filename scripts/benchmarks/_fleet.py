"""Write a recipe of many experts, each with a training job of its own, and an inventory of many hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = """\
# @package _global_
# A fleet of experts, each trained and then served as an adapter.
defaults:
{defaults}
  - /router: keyword
  - /serving: vllm_gpu
  - override /hardware: rtx_4090
  - override /hosts: fleet
  - _self_
name: fleet
description: Many experts on many hosts
serving:
  max_model_len: 8192
"""

_DEFAULTS = """\
  - /model@jobs.expert{n}.model: qwen2_5_7b_instruct
  - /dataset@jobs.expert{n}.dataset: jsonl
  - /method@jobs.expert{n}.method: sft
  - /adapter@jobs.expert{n}.adapter: lora
  - /evaluation@jobs.expert{n}.evaluation: loss"""

_JOB = """\
  expert{n}:
    dataset: {{path: rows.jsonl}}
    method: {{learning_rate: 2e-4}}
    gates: {{vs_base.loss: "< 0"}}
    register_as: expert{n}
"""

_EXPERT = """\
    expert{n}:
      model: job:expert{n}
      adapter_on: general
      description: Knows subject {n}
      keywords: [subject{n}]
"""


def write(folder: Path, *, experts: int, hosts: int) -> None:
    """Write `recipes/fleet.yaml`, `hosts/fleet.yaml` and `rows.jsonl` into a working directory."""
    numbers = range(experts)
    parts = [
        _HEAD.format(defaults="\n".join(_DEFAULTS.format(n=n) for n in numbers)),
        "jobs:\n",
        *(_JOB.format(n=n) for n in numbers),
        "topology:\n  fallback: general\n  experts:\n    general: {model: hub:Qwen/Qwen2.5-7B-Instruct}\n",
        *(_EXPERT.format(n=n) for n in numbers),
    ]
    inventory = [f"  gpu{n:03}: {{address: gpu{n:03}.example.net}}\n" for n in range(hosts)]
    for name, text in {
        "recipes/fleet.yaml": "".join(parts),
        "hosts/fleet.yaml": f"# {hosts} machines.\nname: fleet\nhosts:\n{''.join(inventory)}",
        "rows.jsonl": '{"prompt": "1 + 1 =", "response": "2"}\n' * 40,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
