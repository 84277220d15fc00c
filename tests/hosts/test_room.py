"""An expert that comes in the place of one that goes, on a GPU that has room for one of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.lab import LENT, Lab, driver
from tests.hosts.machines import machines

RECIPE = """\
# @package _global_
# A small expert on a host without a GPU, and one that needs the GPU of the other host for itself.
defaults:
  - /topology: single
  - /router: keyword
  - /serving: vllm_gpu
  - override /hardware: rtx_4090
  - override /hosts: lab
  - _self_
name: shop
topology:
  experts:
    general: {model: "path:models/v1"}
gateway: {host: 0.0.0.0, health_interval_s: 0.5}
serving: {startup_timeout_s: 60}
deploy: {update: {watch_s: 2, drain_timeout_s: 10, unreachable_s: 15}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts, two with a GPU; `general` has one of them."""
    with machines(3, bind=LENT) as hosts:
        made = Lab(tmp_path_factory.mktemp("lab"), hosts)
        made.prepare()
        for name in ("h2", "h3"):
            assert hosts.run(hosts[name], "sh", "-c", driver(used_mib=64)).returncode == 0
        (made.folder / "recipes" / "shop.yaml").write_text(RECIPE)
        for name in ("v1", "v2", "v3"):
            made.model(name, needs_gpu="")
        yield made


def expert(name: str, model: str) -> str:
    return f"+topology.experts.{name}={{model: path:models/{model}, keywords: [{name}]}}"


def active(lab: Lab) -> set[str]:
    return {service for service, state in lab.states().items() if state == "active"}


def test_one_goes_where_there_is_no_room_for_both_and_is_back_when_the_other_does_not_start(lab: Lab) -> None:
    lab.deploy(expert("maps", "v2"))
    assert active(lab) == {"gateway", "general", "maps"}
    plan = lab.run("+recipe=shop", expert("code", "v3"), "mode=plan").output
    assert "+ code: release" in plan and "after maps has stopped to make room" in plan, plan
    with lab.asked() as asked:
        lab.deploy(expert("code", "v3"))
        assert active(lab) == {"gateway", "general", "code"}
        assert "nothing to change" in lab.deploy(expert("code", "v3")).output
        lab.model("bad", needs_gpu="", dies_after="1")
        refused = lab.run("+recipe=shop", expert("other", "bad"))
        assert refused.code == 1 and "the engine met its end" in refused.output, refused.output
        assert "The release before serves on" in refused.output, refused.output
        assert active(lab) == {"gateway", "general", "code"}
        back = lab.run("rollback", "lab")
        assert back.code == 0, back.output
        assert active(lab) == {"gateway", "general", "maps"}
    assert not asked["failures"] and asked["answered"], asked


@pytest.mark.thorough
def test_what_has_made_room_is_back_when_the_work_on_the_host_is_killed(lab: Lab) -> None:
    lab.deploy(expert("maps", "v2"))
    lab.model("slow", needs_gpu="", behaviour="hangs")
    deploying = lab.start("+recipe=shop", expert("other", "slow"))
    lab.await_line(deploying, "other: starting release")
    assert active(lab) == {"gateway", "general"}
    work = "largeforge-shop-other-switch.service"
    (host,) = [
        one for one in lab.hosts if lab.hosts.run(one, "systemctl", "is-active", work).stdout.strip() == "active"
    ]
    lab.hosts.run(host, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", work)
    said, _ = deploying.communicate(timeout=120)
    assert deploying.returncode == 1 and "the switch was killed. The release before serves on" in said, said
    assert active(lab) == {"gateway", "general", "maps"}
    lab.deploy(expert("maps", "v2"))
    assert lab.deployed()["replaced"] == [], "all of it serves as it did"
