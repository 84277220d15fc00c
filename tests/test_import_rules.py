"""Who may import whom (docs: the table in the design, held here), and that planning imports nothing heavy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import largeforge


@dataclass(frozen=True)
class Rule:
    """What a module, and all modules below it, may import besides itself and the standard library."""

    own: tuple[str, ...] = ()
    """Other parts of LargeForge, without `largeforge.`; `*` means all."""
    top: tuple[str, ...] = ()
    """Packages imported with the module."""
    late: tuple[str, ...] = ()
    """Packages imported only inside functions; `*` means all."""


FOUNDATION = (
    "errors", "os_errors", "secrets", "events", "artifacts", "cache", "signals", "reaper", "processor", "hardware",
    "estimate",
)  # fmt: skip
"""Standard library only, each may import those before it; everybody may import them."""

TRAINING = (
    "torch", "transformers", "trl", "peft", "datasets", "accelerate", "deepspeed", "tokenizers", "safetensors", "vllm",
)  # fmt: skip

_EXTENSION = Rule(own=("recipe",), top=("pydantic",), late=TRAINING)

RULES = {
    **{name: Rule(own=FOUNDATION[:index]) for index, name in enumerate(FOUNDATION)},
    "rates": Rule(),
    "tls": Rule(),
    "recipe": Rule(own=("files",), top=("pydantic", "yaml"), late=("hydra", "omegaconf", "jinja2")),
    "recipe.hydra_sources": Rule(own=("recipe",), top=("hydra",), late=("omegaconf",)),
    "methods": _EXTENSION,
    "adapters": _EXTENSION,
    "launchers": Rule(own=("recipe", "cluster.spec"), top=("pydantic",), late=TRAINING),
    "cluster": Rule(own=("autopsy",), late=("submitit", "ray")),
    "evaluators": Rule(own=("recipe", "judging", "rewards"), top=("pydantic",), late=(*TRAINING, "lm_eval")),
    "judging": Rule(own=("recipe",), late=("numpy",)),
    "rewards": Rule(own=("recipe",), top=("pydantic",), late=(*TRAINING, "jsonschema", "referencing", "regex")),
    "quantizers": Rule(
        own=("recipe",), top=("pydantic",), late=(*TRAINING, "awq", "compressed_tensors", "llmcompressor", "tqdm")
    ),
    "quantizing": Rule(
        own=(
            "judging",
            "recipe",
            "environments",
            "serving",
            "stages.context",
            "stages.loading",
            "stages.models",
        )
    ),
    "environments": Rule(own=("recipe",), top=("yaml",), late=("packaging",)),
    "hostenv": Rule(late=("packaging",)),
    "hostenv.remote": Rule(),
    "files": Rule(late=("fsspec", "pyarrow", "huggingface_hub", "datasets")),
    "data": Rule(own=("files", "recipe"), late=("numpy", "pyarrow", "tokenizers")),
    "identity": Rule(own=("recipe",)),
    "plan": Rule(own=("recipe", "forecast")),
    "planning": Rule(own=("plan", "recipe", "identity", "environments", "forecast")),
    "forecast": Rule(own=("recipe", "rates", "data", "plan"), top=("pydantic",)),
    "forecast_view": Rule(own=("forecast",), top=("rich",)),
    "plan_view": Rule(own=("plan", "recipe", "forecast", "forecast_view"), top=("rich",)),
    "serving": Rule(own=("recipe", "tls")),
    "loadtest": Rule(own=("recipe", "data", "judging"), late=("vllm",)),
    "exporters": Rule(own=("recipe", "exporting"), top=("pydantic",)),
    "exporting": Rule(
        own=("recipe", "serving", "forecast", "plan", "exporters", "monitoring", "autoscale"), top=("yaml",)
    ),
    "autoscale": Rule(own=("recipe",)),
    "rollout": Rule(own=("recipe",)),
    "monitoring": Rule(own=("recipe",), late=("yaml", "grafana_foundation_sdk")),
    "registry": Rule(own=("recipe",), late=("mlflow", "sqlalchemy", "huggingface_hub")),
    "catalog": Rule(own=("recipe", "registry", "recorded", "compare", "runs"), top=("rich",), late=("pydantic",)),
    "operators": Rule(),
    "client": Rule(own=("operators", "tls"), top=("httpx",)),
    "tokens": Rule(
        own=("recipe", "data"),
        late=("jinja2", "tokenizers", "pyarrow", "numpy", "transformers", "datasets"),
    ),
    "shown": Rule(own=("plan", "planning", "recipe", "runs", "stages", "data", "tokens"), top=("rich",)),
    "training": Rule(
        own=("recipe", "data", "tokens", "stages.context", "stages.loading", "stages.models"),
        top=("pydantic",),
        late=(*TRAINING, "numpy", "blake3"),
    ),
    "stages": Rule(
        own=(
            "recipe",
            "card",
            "identity",
            "data",
            "files",
            "tokens",
            "training",
            "serving",
            "quantizing",
            "loadtest",
            "registry",
            "client",
            "gateway",
            "deploy",
            "methods",
            "adapters",
            "launchers",
            "evaluators",
            "judging",
        ),
        top=("pydantic",),
        late=(*TRAINING, "openai"),
    ),
    "recorded": Rule(own=("recipe", "registry", "runs")),
    "compare": Rule(own=("recipe", "plan", "planning", "recorded"), top=("rich",)),
    "reproduce": Rule(
        own=("recipe", "plan", "planning", "runs", "recorded", "identity", "compare"), top=("rich",), late=("hydra",)
    ),
    "runs": Rule(own=("plan", "recipe"), top=("yaml",)),
    "runner": Rule(
        own=(
            "plan",
            "stages",
            "recipe",
            "runs",
            "autopsy",
            "environments",
            "forecast",
            "training.checkpoints",
            "onhosts.task",
        )
    ),
    "onhosts": Rule(own=("recipe", "plan", "deploy", "cluster", "hostenv", "stages.models")),
    "onhosts.remote": Rule(
        top=(
            "begin",
            "brought",
            "carry",
            "disk",
            "facts",
            "folders",
            "follow",
            "places",
            "prepare",
            "status",
            "talk",
            "turns",
            "unit",
        )
    ),
    "autopsy": Rule(),
    "console": Rule(top=("rich",)),
    "report": Rule(own=("console",)),
    "preflight": Rule(
        own=("plan", "recipe", "runs", "data", "environments", "files", "forecast", "loadtest", "stages"),
        late=("packaging",),
    ),
    "execute": Rule(
        own=("plan", "recipe", "runs", "runner", "console", "report", "preflight", "forecast", "progress", "tracking")
    ),
    "progress": Rule(own=("plan",)),
    "card": Rule(),
    "trackers": Rule(own=("recipe", "registry"), late=("mlflow", "wandb")),
    "tracking": Rule(own=("recipe", "console", "runs")),
    "gateway": Rule(
        own=("recipe", "monitoring", "operators", "rollout", "tls"),
        top=(
            "httptools",
            "orjson",
            "prometheus_client",
            "pydantic",
            "python_multipart",
            "starlette",
            "swagger_ui_bundle",
            "uvicorn",
            "uvloop",
        ),
        late=("numpy", "opentelemetry"),
    ),
    "gateway.routers": Rule(own=("recipe", "gateway"), top=("pydantic",), late=("numpy",)),
    "gateway.quality.checking": Rule(own=("gateway", "rewards"), top=("orjson",)),
    "gateway.patterns": Rule(top=("pydantic",), late=("re2",)),
    "gateway.safety": Rule(own=("recipe", "gateway"), top=("pydantic",), late=TRAINING),
    "deploy": Rule(
        own=("recipe", "serving", "registry", "cluster", "placing", "hostenv", "monitoring", "rollout", "autoscale"),
        top=("pydantic", "yaml"),
    ),
    "deploy.rollouts.telling": Rule(own=("deploy", "recipe"), top=("rich",)),
    "deploy.preview_view": Rule(own=("deploy", "placing"), top=("rich",)),
    "deploy.child": Rule(own=("deploy",), top=("gevent", "pyinfra")),
    "deploy.operations": Rule(own=("deploy",), top=("pyinfra",)),
    "deploy.agent": Rule(top=("ask", "serve", "gateway", "gpus", "metrics", "switch")),
    "inspection": Rule(own=("planning", "recipe"), late=("pydantic",)),
    "scaffold": Rule(own=("recipe", "data", "files")),
    "placing": Rule(),
    "sweep": Rule(
        own=("plan", "planning", "recipe", "runs", "forecast", "preflight", "console", "report", "registry"),
        top=("pydantic",),
        late=("hydra", "mlflow", "optuna", "rich"),
    ),
    "commands": Rule(own=("*",), top=("rich",), late=("*",)),
    "help": Rule(own=("recipe",), top=("yaml",)),
    "cli": Rule(own=("*",), late=("*",)),
    "__main__": Rule(own=("cli",)),
    "__init__": Rule(),
}
"""Module, or package with all that is in it, to its rule; the longest name that fits counts."""

HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "vllm",
    "mlflow",
    "wandb",
    "pyarrow",
    "pandas",
    "numpy",
    "pyinfra",
    "ray",
)

PACKAGE = Path(largeforge.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


@dataclass(frozen=True)
class Import:
    """One import statement; those under TYPE_CHECKING do not count and are not found."""

    module: str
    line: int
    late: bool


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_module_imports_only_what_it_may(path: Path) -> None:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    rule_name = next((prefix for prefix in _prefixes(name) if prefix in RULES), None)
    assert rule_name, f"there is no rule for largeforge.{name}: add one to RULES in {__file__}"
    wrong = [
        f"{path}:{found.line}: {found.module}{' (inside a function it may)' if _late_only(found, rule_name) else ''}"
        for found in _imports(path)
        if not _allowed(found, rule_name)
    ]
    assert not wrong, f"largeforge.{rule_name} must not import:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["+recipe=quickstart", "mode=plan"], ["+recipe=quickstart", "nonsense=1"], []],
    ids=["help", "plan", "mistake", "list of recipes"],
)
def test_a_command_that_only_talks_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    program = f"""
import json, sys
from largeforge.cli import main
try:
    main({arguments!r})
finally:
    print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("stage", ["deploy", "serve"])
def test_a_stage_that_serves_does_not_import_what_trains(stage: str) -> None:
    program = f"import sys, largeforge.stages.{stage}; print(*sys.modules, sep='\\n')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    trains = ("largeforge.methods", "largeforge.launchers", "largeforge.quantizers", "largeforge.trackers")
    assert not [name for name in ended.stdout.split() if name.startswith(trains)]


def test_rules_find_an_offence(tmp_path: Path) -> None:
    path = tmp_path / "plan.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "from largeforge import runner\n"
        "import torch.nn\n"
        "if TYPE_CHECKING:\n    import trl\n"
        "def f():\n    from largeforge.recipe.schema import Recipe\n    import json\n"
    )
    offences = [found.module for found in _imports(path) if not _allowed(found, "plan")]
    assert offences == ["largeforge.runner", "torch.nn"]


def _imports(path: Path) -> list[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: list[Import] = []

    def walk(node: ast.AST, late: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                walk(child, late)
            return
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            module = str(node.module)
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "largeforge" else [module]
            found.extend(Import(name, node.lineno, late) for name in names)
        inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            walk(child, inside)

    walk(tree, late=False)
    return found


def _allowed(found: Import, rule_name: str) -> bool:
    root, _, inner = found.module.partition(".")
    rule = RULES[rule_name]
    if root == "largeforge":
        own = (*rule.own, *(() if rule_name in FOUNDATION else FOUNDATION), rule_name, "__version__", "")
        return "*" in rule.own or any(prefix in own for prefix in _prefixes(inner))
    if root in sys.stdlib_module_names:
        return True
    return root in rule.top or (found.late and (root in rule.late or "*" in rule.late))


def _late_only(found: Import, rule_name: str) -> bool:
    return not found.late and found.module.partition(".")[0] in RULES[rule_name].late


def _prefixes(name: str) -> list[str]:
    """Return `a.b.c`, `a.b`, `a`."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
