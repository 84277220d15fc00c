"""Python packages that the stages import are installed, and not too old."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

from largeforge.preflight.finding import Finding, error, ok, skipped

if TYPE_CHECKING:
    from largeforge.preflight.context import Context

EXTRAS = {
    "init": "train", "train": "train", "evaluate": "train", "merge": "train", "quantize": "train",
    "parity": "train", "register": "registry", "serve": "serve", "route": "gateway",
}  # fmt: skip
"""Kind of a stage to the extra of LargeForge that it needs."""
CHOICES = {("adapter", "qlora"): "qlora", ("launcher", "deepspeed"): "deepspeed"}
"""Choice within a stage's config to the further extra that it needs."""
KERNELS = {
    ("attn_implementation", "flash_attention_2"): ("flash_attn", "flash-attn"),
    ("attn_implementation", "flash_attention_3"): ("flash_attn_interface", "flash-attn-3"),
    ("use_liger_kernel", True): ("liger_kernel", "liger-kernel"),
}
"""Setting of a method to the module that it needs, and the package that brings it; none of them runs on a CPU."""


def check(context: Context) -> Iterator[Finding]:
    """Compare the installed versions with those that LargeForge asks for."""
    if context.plan and context.plan.recipe.environment.python:
        yield skipped("stages run in an interpreter of their own (environment.python)")
        return
    extras = dict.fromkeys(EXTRAS[stage.kind] for stage in context.here if stage.kind in EXTRAS)
    for (group, name), extra in CHOICES.items():
        if any(stage.config.get(group, {}).get("name") == name for stage in context.here):
            extras[extra] = None
    launchers = [(stage.launcher or {}).get("name") for stage in context.here]
    extras |= dict.fromkeys(name for name in ("slurm", "ray") if name in launchers)
    if any(stage.config.get("gateway", {}).get("tracing", {}).get("endpoint") for stage in context.here):
        extras["tracing"] = None
    if any(stage.config.get("monitoring", {}).get("enabled") for stage in context.here):
        extras["monitoring"] = None
    if context.plan is None:
        extras = {"train": None}
    yield from _kernels(context)
    if not extras:
        yield skipped("no stage needs more than the core")
    try:
        for extra in extras:
            yield _extra(extra, plan=context.plan is not None)
    except metadata.PackageNotFoundError:
        yield skipped("LargeForge runs from a folder and is not installed, so that its needs are not known")


def _kernels(context: Context) -> Iterator[Finding]:
    """Look for the GPU kernels that trainings ask for."""
    methods = [stage.config["method"] for stage in context.here if stage.kind == "train"]
    for (setting, value), (module, package) in KERNELS.items():
        if not any(method.get(setting) == value for method in methods):
            continue
        given = f"method.{setting}={str(value).lower()}"
        if context.plan is not None and context.plan.machine.device == "cpu":
            yield error(f"{given} needs a GPU", f"leave method.{setting} out")
        elif find_spec(module) is None:
            yield error(f"{given}: {package} is not installed", f"pip install {package}, or leave method.{setting} out")


def _extra(extra: str, *, plan: bool) -> Finding:
    wanted = required(extra)
    faults = [fault for name, specifier in wanted for fault in [_fault(name, specifier)] if fault]
    if not faults:
        return ok(f"{extra}: {len(wanted)} packages")
    if not plan and all("is not installed" in fault for fault in faults):
        return skipped(f"{extra} is not installed on this machine: pip install 'largeforge[{extra}]'")
    return error("; ".join(faults), f"pip install -U 'largeforge[{extra}]'")


def required(extra: str) -> list[tuple[str, str]]:
    """Return name and versions (`>=1,<2`) of the packages of an extra, those of extras within it included."""
    from packaging.requirements import Requirement

    found = []
    for line in metadata.requires("largeforge") or []:
        requirement = Requirement(line)
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.marker.evaluate({"extra": ""}):
            continue
        if re.sub(r"[-_.]+", "-", requirement.name).lower() == "largeforge":
            found += [entry for inner in sorted(requirement.extras) for entry in required(inner)]
        else:
            found.append((requirement.name, str(requirement.specifier)))
    return found


def _fault(name: str, specifier: str) -> str:
    from packaging.specifiers import SpecifierSet

    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    fits = SpecifierSet(specifier).contains(version, prereleases=True)
    return "" if fits else f"{name} {version} is installed, {specifier} is needed"
