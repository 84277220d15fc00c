"""Compose packs made of mutated YAML in this one process, limited and watched. Usage: fuzz.py FOLDER EXAMPLES."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watched import watch

from largeforge.errors import RecipeError
from largeforge.recipe import folders
from largeforge.recipe.compose import compose
from largeforge.recipe.packs import installed, policy
from largeforge.recipe.validate import validate

ROOT, EXAMPLES = Path(sys.argv[1]), int(sys.argv[2])
EXAMPLE_S = 20

HEADS = [
    "environment", "serving", "runs", "registry", "hosts", "gateway", "hydra", "defaults", "model", "dataset", "jobs",
    "models", "topology", "mode", "launcher", "sweep", "method", "adapter", "evaluation", "gates", "name", "verify",
]  # fmt: skip
KEYS = [
    *HEADS, "python", "extra", "root", "uri", "host", "ref", "path", "heldout_path", "_target_", "experts", "general",
    "questions", "architecture", "trust-remote-code", "chat-template", "a", "main", "description", "a.b", "<<", "",
]  # fmt: skip
VALUES = [
    "/etc/passwd", "path:/etc", "run:/etc/x", "recipe:../../../etc/passwd", "recipe:data/shop.jsonl", "pack:acme/../x",
    "${oc.env:HOME}", "${environment.python}", "${description}", "${name}", "${.a}", "???", "hub:a/b", "job:main",
    "/bin/sh", "../x", "~/x", "https://example.com", "acme/x", "x", "y", "sft", "file:///etc/passwd", "1:1:1:1",
    None, True, 1, -1, 1e400, 10**30, "\x1b[31m", "0x" + "f" * 99, [], {},
]  # fmt: skip
GROUPS = [
    "/model", "/method", "/dataset", "override /hardware", "/environment", "override /environment", "override /hosts",
    "/serving", "/model@environment", "/thing@serving", "/thing@_global_", "/thing", "model", "/hydra/launcher",
    "optional /thing", "override /gateway", "/evaluation@jobs.a.evaluation", "/recipe", "/registry@topology",
]  # fmt: skip
NAMES = ["x", "y", "z", "sft", "lora", "local", "current", "qwen2_5_7b_instruct", "../x", "acme/x", "/etc/passwd", None]

words = st.one_of(st.sampled_from(KEYS), st.text(max_size=8))
scalars = st.one_of(st.sampled_from(VALUES), st.text(max_size=12), st.floats(), st.integers())
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=4)),
    max_leaves=12,
)
entries = st.one_of(
    st.dictionaries(st.sampled_from(GROUPS), st.one_of(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES))),
                    min_size=1, max_size=1),
    st.sampled_from(["_self_", "x", "y", "/thing/z", "/model/acme/x", "quickstart", "/etc/passwd"]),
)  # fmt: skip
defaults = st.lists(entries, max_size=5)
sections = st.dictionaries(st.sampled_from(HEADS), trees, max_size=4)
recipes = st.builds(
    lambda head, section, wanted, name: {**({"defaults": wanted} if wanted else {}), **name, **section, **head},
    st.dictionaries(words, trees, max_size=2), sections, defaults, st.just({"name": "x"}),
)  # fmt: skip
SOUND = [
    {"defaults": [{"/model": "qwen2_5_7b_instruct"}, {"/method": "sft"}, {"/adapter": "lora"}, "_self_"], "name": "x",
     "dataset": {"path": "recipe:data/shop.jsonl"}},
    {"defaults": ["quickstart", "_self_"], "name": "x"},
    {"defaults": ["sft_qwen7b", {"/thing@dataset": "z"}, "_self_"], "name": "x"},
    {"defaults": ["serve_qwen7b", {"override /serving": "z"}, "_self_"], "name": "x"},
]  # fmt: skip
dotted = st.sampled_from([
    "environment.python", "serving.python", "serving.extra.plugin", "dataset.path", "dataset.system", "model.ref",
    "jobs.general.dataset.path", "jobs.general.model.name", "topology.experts.general.model", "gateway.host", "seed",
    "runs.root", "hosts.hosts.a.address", "method.max_steps", "description", "serving.max_num_seqs", "gates.loss",
])  # fmt: skip


def changed(base: dict, values: list[tuple[str, object]]) -> dict:
    tree = json.loads(json.dumps(base))
    for key, value in values:
        *above, last = key.split(".")
        section = tree
        for part in above:
            section = section.setdefault(part, {})
        section[last] = value
    return tree


near = st.builds(changed, st.sampled_from(SOUND), st.lists(st.tuples(dotted, scalars), max_size=2))
recipes = st.one_of(near, near, recipes)
choices = st.one_of(st.just({"path": "recipe:data/shop.jsonl"}), st.just({"dtype": "float32"}), trees)
edits = st.lists(st.tuples(st.integers(0, 400), st.sampled_from([
    "!!python/object/apply:os.system [touch /tmp/pwned]", "&a ", "*a", "${", "}", ": ", "\n", "  ", "- ", "{", "[",
    "# @package environment\n", "# @package _global_\n", "<<: *a\n", "? ", "| ", "%YAML 1.1\n---\n", "\x00", "'", '"',
])), max_size=3)  # fmt: skip

groups = st.sampled_from(["thing", "model", "method", "serving", "environment"])
few_edits = st.one_of(st.just([]), st.just([]), edits)

SEEN = watch(ROOT, folders.shipped_root(), Path.cwd(), cpu_s=600)
COUNTS = {"composed": 0, "refused": 0}


def text_of(tree: object, changes: list[tuple[int, str]]) -> bytes:
    text = yaml.safe_dump(tree, allow_unicode=True)
    for position, piece in changes:
        at = position % (len(text) + 1)
        text = text[:at] + piece + text[at:]
    return text.encode("utf-8", "surrogateescape" if text.isascii() else "replace")


def expected_of(recipe: object, pack: Path) -> list[str]:
    """Return what a pack has reached in a recipe and must not."""
    values = recipe.model_dump(mode="json")
    mine = validate(compose(["+recipe=quickstart"])).model_dump(mode="json")
    wrong = [key for key in ("environment", "registry", "runs", "hosts", "gateway", "mode", "sweep")
             if values[key] != mine[key]]  # fmt: skip
    if values["serving"]["python"] or set(values["serving"]["extra"]) - set(policy.VLLM_OPTIONS):
        wrong.append("serving")
    allowed = (f"{pack}/recipes/", f"{folders.shipped_root()}/recipes/")
    for job in recipe.training_jobs.values():
        for path in (job.dataset.path, job.dataset.heldout_path):
            if path and not str(Path(path).resolve()).startswith(allowed):
                wrong.append(f"data {path}")
        if job.model.ref.startswith(("path:", "run:")):
            wrong.append(job.model.ref)
    return wrong


@settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(
    recipes,
    few_edits,
    choices,
    few_edits,
    recipes,
    st.sampled_from(["thing", "model", "method", "serving", "environment"]),
)
def compose_all(recipe, recipe_edits, choice, choice_edits, other, group):
    pack = ROOT / "pack"
    shutil.rmtree(pack, ignore_errors=True)
    for name, content in {
        "recipes/x.yaml": text_of(recipe, recipe_edits), "recipes/y.yaml": text_of(other, []),
        f"conf/{group}/z.yaml": text_of(choice, choice_edits), "recipes/data/shop.jsonl": b'{"prompt": "a"}\n',
    }.items():  # fmt: skip
        file = pack / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    SEEN.clear()
    signal.alarm(EXAMPLE_S)
    try:
        with installed.using(installed.Pack("acme", pack)):
            composition = compose(["+recipe=acme/x"], partial=True)
            found = validate(composition)
            assert not expected_of(found, pack)
        COUNTS["composed"] += 1
    except RecipeError as error:
        COUNTS["refused"] += 1
        assert len(str(error)) < 100_000
    finally:
        signal.alarm(0)
    assert not SEEN, SEEN


compose_all()
print(json.dumps(COUNTS))
