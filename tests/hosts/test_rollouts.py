"""New models on real hosts, step by step: promoted or sent back by themselves under load, also when nobody conducts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from largeforge.recipe.model_ref import parse
from largeforge.recipe.schema import Registry
from largeforge.registry import GateResult, Lineage, ModelRegistry
from tests.e2e.workspace import wait_for
from tests.hosts.lab import LENT, PORT, Lab, unit
from tests.hosts.machines import machines

CANARY = (
    "rollout=canary", "rollout.steps=[0.2,0.5]", "rollout.bake_s=3", "rollout.min_requests=100", "rollout.watch_s=3",
    "rollout.look_s=1", "deploy.update.strategy=blue_green", "rollout.alias=production",
    "topology.experts.general.model=registry:shop@champion",
)  # fmt: skip
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "total", "schema": {"type": "object", "required": ["total"]}},
}
RIGHT, WRONG = '{"total": 3}', '{"totally": "wrong"}'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts, of which two serve version 1 of a registered model."""
    with machines(3, bind=LENT) as hosts:
        made = Lab(tmp_path_factory.mktemp("lab"), hosts)
        made.prepare()
        register(made, "v1", says=RIGHT)
        made.deploy(*CANARY)
        yield made


@pytest.fixture(autouse=True)
def _leaves_none_under_way(lab: Lab) -> Iterator[None]:
    yield
    if any(not one["ended"] for one in rollouts(lab)):
        lab.run("rollout", "abort", "lab", "shop")


def registry(lab: Lab) -> ModelRegistry:
    folder = lab.folder / "registry"
    return ModelRegistry(Registry(uri=f"sqlite:///{folder}/mlflow.db", artifacts=f"{folder}/artifacts"))


def register(lab: Lab, name: str, **files: str) -> str:
    """Register a model whose server behaves as its files say; return what `trace` finds it by."""
    lab.model(name, **files)
    lock = hashlib.sha256(name.encode()).hexdigest()
    lineage = Lineage(
        recipe="shop", recipe_digest="d" * 64, lock=lock, gates=[GateResult("eval.loss", "< 2", 1.0, True)]
    )
    made = registry(lab).register(
        "shop", lab.folder / "models" / name, kind="model", lineage=lineage, metrics={}, alias="champion"
    )
    return made.reference


def alias(lab: Lab, name: str) -> int:
    return registry(lab).find(parse(f"registry:shop@{name}")).version


def rollouts(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab.run("rollout", "status", "lab", "shop", "--json").output)
    return found


def admin(lab: Lab, path: str) -> Any:
    """Return what an operator is told by the gateway."""
    token = f"$(cat /var/lib/largeforge/shop/gateway/largeforge/gateways/{PORT}.token)"
    asked = f'curl -s -H "authorization: Bearer {token}" http://127.0.0.1:{PORT}{path}'
    return json.loads(lab.hosts.run(lab.hosts["h1"], "sh", "-c", asked).stdout)


def test_a_good_model_is_promoted_under_load_and_no_request_fails(lab: Lab) -> None:
    register(lab, "v2", says=RIGHT)
    with lab.asked(response_format=SCHEMA) as asked:
        ended = lab.deploy(*CANARY)
    assert not asked["failures"] and set(asked["answered"]) == {"registry:shop/1", "registry:shop/2"}, asked
    (done,) = [one for one in rollouts(lab) if one["ended"]][-1:]
    assert done["ended"] == "promoted"
    actions = [(entry["action"], entry["share"]) for entry in done["servers"][0]["log"]]
    assert [share for action, share in actions if action == "step"] == [0.2, 0.5, 1.0], actions
    assert done["servers"][0]["observed"]["canary"]["requests"] > 300
    assert alias(lab, "production") == 2 and "shop@production is version 2" in ended.output
    assert "nothing to change" in lab.deploy(*CANARY).output
    assert lab.states() == {"gateway": "active", "general": "active", "general-2": "active"}
    assert admin(lab, "/admin/state")["canaries"] == {}


def test_a_model_that_answers_but_wrongly_is_sent_back_by_itself(lab: Lab) -> None:
    reference = register(lab, "v3", says=WRONG)
    assert alias(lab, "champion") == 3
    with lab.asked(response_format=SCHEMA) as asked:
        ended = lab.run("+recipe=shop", *CANARY, timeout_s=300)
    assert ended.code == 3 and "sent back: schema_valid" in ended.output, ended.output
    assert not asked["failures"] and asked["answered"]["registry:shop/3"] < 0.3 * sum(asked["answered"].values()), asked
    assert rollouts(lab)[-1]["ended"] == "rolled_back"
    assert alias(lab, "champion") == 2, "the alias returns"
    traced = lab.run("trace", reference)
    assert traced.code == 0 and "sent back by rollout" in traced.output and "schema_valid" in traced.output, traced
    view = admin(lab, "/admin/state")["rollouts"]["general"]
    assert view["phase"] == "rolled_back" and "schema_valid" in view["reasons"][0]
    metrics = lab.hosts.run(lab.hosts["h1"], "curl", "-s", f"http://127.0.0.1:{PORT}/metrics").stdout
    assert 'phase="rolled_back"' in metrics, "an alert follows from it"
    lab.deploy(*CANARY)
    assert not lab.deployed()["replaced"], "the alias means the version that serves"
    again = lab.run("+recipe=shop", *CANARY, "topology.experts.general.model=registry:shop/3")
    assert again.code == 3 and "with this model by rollout" in again.output and "rollout.again=true" in again.output


@pytest.mark.thorough
def test_whoever_conducts_dies_and_another_goes_on(lab: Lab) -> None:
    register(lab, "v4", says=RIGHT)
    with lab.asked(response_format=SCHEMA) as asked:
        process = lab.start("+recipe=shop", *CANARY)
        lab.await_line(process, "0.2 of the traffic")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert rollouts(lab)[-1]["ended"] == "" and rollouts(lab)[-1]["servers"][0]["share"] == 0.2
        refused = lab.run("restart", "lab", "shop")
        assert refused.code == 1 and "a rollout under way" in refused.output, refused.output
        other = lab.run("+recipe=shop", *CANARY, "topology.experts.general.model=registry:shop/1")
        assert other.code == 1 and "a rollout under way" in other.output, other.output
        resumed = lab.run("rollout", "resume", "lab", "shop", "--json", timeout_s=300)
    assert resumed.code == 0, resumed.output
    assert rollouts(lab)[-1]["ended"] == "promoted" and lab.versions_of_models() == {"registry:shop/4"}
    assert not asked["failures"], asked


@pytest.mark.thorough
def test_commands_reach_the_one_who_conducts(lab: Lab) -> None:
    register(lab, "v5", says=RIGHT)
    process = lab.start("+recipe=shop", *CANARY)
    said = lab.await_line(process, "0.2 of the traffic")
    second = lab.run("+recipe=shop", *CANARY)
    assert second.code == 1 and "is changing this deployment" in second.output, second.output
    paused = lab.run("rollout", "pause", "lab", "shop")
    assert paused.code == 0 and "paused" in paused.output, paused.output
    lab.hosts.run(lab.hosts["h1"], "systemctl", "restart", unit(lab.hosts["h1"], lab.hosts, "gateway"))
    wait_for(lambda: lab.reaches("h1", PORT), timeout_s=60)
    wait_for(lambda: admin(lab, "/admin/state")["canaries"] == {"general": 0.2}, timeout_s=60)
    resumed = lab.run("rollout", "resume", "lab", "shop")
    assert resumed.code == 0, resumed.output
    aborted = lab.run("rollout", "abort", "lab", "shop")
    assert aborted.code == 0 and "rolled back" in aborted.output, aborted.output
    said += process.communicate(timeout=120)[0]
    assert process.returncode == 3 and "sent back: by command" in said, said
    assert lab.versions_of_models() == {"registry:shop/4"} and alias(lab, "champion") == 4


@pytest.mark.thorough
def test_a_bad_canary_that_nobody_conducts_is_taken_out_by_the_gateways(lab: Lab) -> None:
    register(lab, "v6", says=RIGHT, fails="0.5")
    with lab.asked(response_format=SCHEMA) as asked:
        process = lab.start("+recipe=shop", *CANARY, "rollout.min_requests=100000", "rollout.analysis.alpha=0.0000001")
        lab.await_line(process, "0.2 of the traffic")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        wait_for(lambda: admin(lab, "/admin/state")["guarded"].get("general"), timeout_s=90)
        assert admin(lab, "/admin/state")["canaries"]["general"] == 0.0
        resumed = lab.run("rollout", "resume", "lab", "shop")
    assert resumed.code == 3 and "taken it out by itself" in resumed.output, resumed.output
    assert not asked["failures"], "stable answered in its place"
    assert lab.versions_of_models() == {"registry:shop/4"} and alias(lab, "champion") == 4


@pytest.mark.thorough
def test_a_host_that_starts_again_in_between_has_its_canary_again(lab: Lab) -> None:
    register(lab, "v7", says=RIGHT)
    process = lab.start("+recipe=shop", *CANARY, "rollout.min_requests=100000")
    lab.await_line(process, "0.2 of the traffic")
    lab.hosts["h2"].reboot()
    with lab.asked(response_format=SCHEMA) as asked:
        time.sleep(20)
    assert process.poll() is None, "who conducts goes on when the host is there again"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130 and "rollout resume" in said, said
    assert "registry:shop/7" in asked["answered"], asked
    aborted = lab.run("rollout", "abort", "lab", "shop")
    assert aborted.code == 0 and "by command" in aborted.output and lab.versions_of_models() == {"registry:shop/4"}, (
        aborted.output
    )


@pytest.mark.thorough
@pytest.mark.parametrize("strategy", ["shadow", "blue_green"])
def test_other_strategies_promote_a_good_model_and_send_a_wrong_one_back(lab: Lab, strategy: str) -> None:
    words = [*CANARY[1:], f"rollout={strategy}"]
    before = alias(lab, "champion")
    wrong = register(lab, f"wrong-{strategy}", says=WRONG)
    with lab.asked(response_format=SCHEMA) as asked:
        ended = lab.run("+recipe=shop", *words, timeout_s=300)
    assert ended.code == 3 and not asked["failures"], (ended.output, asked)
    assert (wrong in asked["answered"]) is (strategy != "shadow"), "nobody sees the answers of a shadow"
    assert alias(lab, "champion") == before
    right = register(lab, f"right-{strategy}", says=RIGHT)
    with lab.asked(response_format=SCHEMA) as asked:
        lab.deploy(*words)
    assert not asked["failures"] and lab.versions_of_models() == {right}


@pytest.mark.thorough
def test_an_experiment_rests_at_its_end_until_somebody_decides(lab: Lab) -> None:
    before = alias(lab, "champion")
    words = [*CANARY[1:], "rollout=ab", "rollout.ab_share=0.4", "rollout.ab_s=5"]
    other = register(lab, "other", says=RIGHT)
    with lab.asked(response_format=SCHEMA) as asked:
        ended = lab.deploy(*words)
        assert "its time is over" in ended.output, ended.output
        resting = rollouts(lab)[-1]
        assert (resting["ended"], resting["servers"][0]["phase"], resting["servers"][0]["share"]) == (
            "",
            "finished",
            0.4,
        )
        time.sleep(3)
        promoted = lab.run("rollout", "promote", "lab", "shop")
    assert promoted.code == 0, promoted.output
    assert not asked["failures"] and len(asked["answered"]) == 2, asked
    assert lab.versions_of_models() == {other} and alias(lab, "champion") > before


@pytest.mark.thorough
def test_what_was_promoted_when_its_controller_died_can_still_be_sent_back(lab: Lab) -> None:
    before, serves = alias(lab, "champion"), lab.versions_of_models()
    register(lab, "late", says=RIGHT)
    with lab.asked(response_format=SCHEMA) as asked:
        process = lab.start("+recipe=shop", *CANARY)
        lab.await_line(process, "promoted: ")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        aborted = lab.run("rollout", "abort", "lab", "shop", timeout_s=120)
    left = rollouts(lab)[-1]
    if "a part of it is in service" in aborted.output:  # it was killed too late
        assert aborted.code == 1 and lab.run("rollout", "resume", "lab", "shop").code == 0
    else:
        assert aborted.code == 0 and left["ended"] == "rolled_back", aborted.output
        assert lab.versions_of_models() == serves and alias(lab, "champion") == before
    assert not asked["failures"], asked


def tell(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        os.kill(process, number)


@pytest.mark.thorough
def test_a_controller_that_was_suspended_changes_nothing_when_it_wakes(lab: Lab) -> None:
    serves = lab.versions_of_models()
    register(lab, "slept", says=RIGHT)
    with lab.asked(response_format=SCHEMA) as asked:
        process = lab.start("+recipe=shop", *CANARY)
        lab.await_line(process, "0.2 of the traffic")
        found = subprocess.run(["pgrep", "-f", f"largeforge.stages .*{lab.folder}"], capture_output=True, text=True)
        conducting = [int(word) for word in found.stdout.split()]
        assert conducting
        tell(conducting, signal.SIGSTOP)
        try:
            wait_for(lambda: lab.run("rollout", "abort", "lab", "shop").code == 0, timeout_s=180)
        finally:
            tell(conducting, signal.SIGCONT)
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 1 and "its lock was lost" in said, said
    assert rollouts(lab)[-1]["ended"] == "rolled_back" and lab.versions_of_models() == serves
    assert lab.states() == {"gateway": "active", "general": "active", "general-2": "active"}
    assert not asked["failures"], asked
