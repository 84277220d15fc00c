"""Deployments to real hosts: first, again, after drift, updates with and without room, going back, and commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts.lab import LENT, PORT, SERVERS, Lab, unit
from tests.hosts.machines import NETWORK, ROOT, machines


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts with the first version deployed."""
    with machines(3, bind=LENT) as hosts:
        made = Lab(tmp_path_factory.mktemp("lab"), hosts)
        made.prepare()
        made.deploy()
        yield made


def test_a_first_deployment_serves_and_a_second_changes_nothing_and_says_so(lab: Lab) -> None:
    assert lab.versions() == {"v1"}
    assert lab.states() == {"gateway": "active", "general": "active", "general-2": "active"}
    again = lab.deploy()
    assert "nothing to change" in again.output and lab.deployed()["changed"] == {"h1": 0, "h2": 0, "h3": 0}
    plan = lab.run("+recipe=shop", "mode=plan")
    assert plan.output.count("nothing to change") == 3, plan.output


def test_services_run_as_their_own_user_with_few_rights(lab: Lab) -> None:
    host = lab.hosts["h2"]
    name = unit(host, lab.hosts, "general")
    shown = lab.hosts.run(
        host, "systemctl", "show", name, "--property=User,NoNewPrivileges,ProtectSystem,LimitCORE"
    ).stdout
    assert {"User=largeforge", "NoNewPrivileges=yes", "ProtectSystem=strict", "LimitCORE=0"} <= set(shown.split())
    score = lab.hosts.run(host, "systemd-analyze", "security", "--no-pager", name).stdout.splitlines()[-1]
    assert "OK" in score or "MEDIUM" in score, score


def test_what_was_changed_by_hand_is_shown_by_the_plan_and_mended_by_the_run(lab: Lab) -> None:
    host, hosts = lab.hosts["h2"], lab.hosts
    name = unit(host, hosts, "general")
    hosts.run(host, "sed", "-i", "s/LimitCORE=0/LimitCORE=infinity/", f"/etc/systemd/system/{name}")
    other = unit(hosts["h3"], hosts, "general")
    hosts.run(hosts["h3"], "systemctl", "stop", other)
    plan = lab.run("+recipe=shop", "mode=plan").output
    assert f"~ file /etc/systemd/system/{name}  (content differs)" in plan and "+LimitCORE=0" in plan.replace(
        " ", ""
    ), plan
    assert "started, it is inactive" in plan and "restarted, its files were changed" in plan, plan
    lab.deploy()
    assert "LimitCORE=0" in hosts.run(host, "cat", f"/etc/systemd/system/{name}").stdout
    assert lab.states() == {"gateway": "active", "general": "active", "general-2": "active"}
    assert "nothing to change" in lab.deploy().output


@pytest.mark.parametrize(("strategy", "version"), [("fixed", "v2"), ("blue_green", "v3")])
def test_an_update_takes_no_request_with_it(lab: Lab, strategy: str, version: str) -> None:
    change = lab.model(version)
    with lab.asked() as asked:
        lab.deploy(change, f"deploy.update.strategy={strategy}")
    assert not asked["failures"] and len(asked["answered"]) == 2, asked
    assert lab.versions() == {version}
    modes = {entry["service"]: (entry["mode"], entry["down_s"]) for entry in lab.deployed()["replaced"]}
    assert all(mode == strategy for mode, _ in modes.values()) and len(modes) == 2
    assert all((down_s > 0) is (strategy == "fixed") for _, down_s in modes.values())


@pytest.mark.thorough
def test_going_back_takes_no_request_with_it_and_needs_no_recipe(lab: Lab) -> None:
    lab.deploy(lab.model("v1"))
    lab.deploy(lab.model("v2"), "deploy.update.strategy=blue_green", "deploy.update.standby=true")
    with lab.asked() as asked:
        back = lab.run("rollback", "lab", "shop")
    assert back.code == 0, back.output
    assert lab.versions() == {"v1"} and not asked["failures"], asked
    assert "back to" in lab.run("status", "lab", "shop").output
    assert "nothing to change" not in lab.deploy(lab.model("v2")).output
    assert lab.versions() == {"v2"}


@pytest.mark.thorough
def test_servers_are_restarted_one_after_the_other(lab: Lab) -> None:
    with lab.asked() as asked:
        ended = lab.run("restart", "lab", "shop")
    assert ended.code == 0 and not asked["failures"], (ended.output, asked)


@pytest.mark.thorough
def test_logs_and_commands_reach_all_hosts(lab: Lab) -> None:
    logs = lab.run("logs", "lab", "shop", "general")
    assert logs.code == 0 and "fake vLLM" in logs.output
    ran = lab.run("exec", "lab", "--", "id", "-un")
    assert ran.code == 0 and sorted(ran.output.split("\n")[:3]) == ["h1  root", "h2  root", "h3  root"], ran.output
    assert lab.run("exec", "lab", "--host", "h2", "--", "false").code == 1


@pytest.mark.thorough
def test_logs_are_rotated_while_services_write_to_them(lab: Lab) -> None:
    host, log = lab.hosts["h1"], "/var/log/largeforge/shop/gateway.log"
    rotated = lab.hosts.run(host, "logrotate", "-f", "/etc/logrotate.d/largeforge-shop")
    assert rotated.returncode == 0 and "error" not in rotated.stderr, rotated
    before = int(lab.hosts.run(host, "stat", "-c", "%s", log).stdout)
    assert int(lab.hosts.run(host, "stat", "-c", "%s", f"{log}.1").stdout) > before, "what was written has moved on"
    assert lab.versions()
    assert int(lab.hosts.run(host, "stat", "-c", "%s", log).stdout) > before, "the same process goes on writing"
    owners = lab.hosts.run(host, "sh", "-c", f"stat -c '%U %a' {log} {log}.1 $(dirname {log})").stdout.split("\n")
    assert owners[:3] == ["root 600", "root 600", "root 755"]


@pytest.mark.thorough
def test_tls_is_switched_on_and_off_and_no_request_notices(lab: Lab) -> None:
    lab.deploy(lab.model("v1"), "deploy.tls.servers=off")
    with lab.asked() as asked:
        lab.deploy(lab.model("v2"))
        assert lab.versions() == {"v2"} and not lab.reaches("h2", *SERVERS, as_plain=True)
        back = lab.run("rollback", "lab", "shop")
        assert back.code == 0, back.output
        assert lab.versions() == {"v1"} and lab.reaches("h2", *SERVERS, as_plain=True)
        lab.deploy(lab.model("v2"), "gateway.workers=2")
    assert not asked["failures"], asked
    assert "nothing to change" in lab.deploy(lab.model("v2"), "gateway.workers=2").output


@pytest.mark.thorough
def test_gateways_show_clients_a_certificate_of_their_own(lab: Lab) -> None:
    told = lab.deploy(lab.model("v2"), "deploy.tls.clients=self_made").output
    trusted = re.search(r"LARGEFORGE_CA=(\S+)", told)
    assert trusted, told
    url = f"https://{lab.hosts['h1'].address}:{PORT}/v1/models"
    asked = [lab.hosts.inside("curl", "-s", "--noproxy", "*", *more, url) for more in (["--cacert", trusted[1]], [])]
    ours, strangers = (subprocess.run(argv, cwd=lab.folder, capture_output=True, text=True) for argv in asked)
    assert json.loads(ours.stdout)["data"] and strangers.returncode == 60, (ours, strangers)
    assert lab.states()["gateway"] == "active"
    restarted = lab.run("restart", "lab", "shop")
    assert restarted.code == 0, restarted.output
    lab.deploy(lab.model("v2"))
    assert lab.versions() == {"v2"}


@pytest.mark.thorough
def test_several_gateways_are_told_together_and_one_that_is_not_wanted_goes(lab: Lab) -> None:
    lab.deploy(lab.model("v1"))
    roles = lab.inventory["hosts"]["h2"]["roles"]
    lab.inventory["hosts"]["h2"]["roles"] = ["gateway", "serve"]
    lab.write_inventory()
    try:
        with lab.asked() as asked:
            lab.deploy(lab.model("v1"))
            assert lab.versions() == lab.versions(at="h2") == {"v1"}
        with lab.asked() as first, lab.asked(at="h2") as second:
            lab.deploy(lab.model("v2"))
            back = lab.run("rollback", "lab", "shop")
        assert back.code == 0, back.output
        assert lab.versions() == lab.versions(at="h2") == {"v1"}
        assert not asked["failures"] and not first["failures"] and not second["failures"], (asked, first, second)
    finally:
        lab.inventory["hosts"]["h2"]["roles"] = roles
        lab.write_inventory()
    lab.deploy(lab.model("v1"))
    assert lab.versions() == {"v1"} and not lab.reaches("h2", PORT)


@pytest.mark.thorough
def test_the_firewall_lets_gateways_and_named_clients_through(lab: Lab) -> None:
    model = lab.model("v2")
    first = lab.deploy(model, "deploy.firewall=nftables").output
    assert lab.versions() == {"v2"}
    assert not lab.reaches("h2", *SERVERS) and lab.reaches("h2", *SERVERS, of="h1") and lab.reaches("h1", PORT)
    again = lab.deploy(model, "deploy.firewall=nftables").output
    assert "nothing to change" in again, first + again
    closed = [model, "deploy.firewall=nftables", f"deploy.clients=[{lab.hosts['h3'].address}/32]"]
    lab.deploy(*closed)
    assert not lab.reaches("h1", PORT) and lab.reaches("h1", PORT, of="h3")
    lab.deploy(model)
    assert lab.reaches("h1", PORT) and lab.reaches("h2", *SERVERS)
    assert "largeforge" not in lab.hosts.run(lab.hosts["h2"], "nft", "list", "tables").stdout


@pytest.fixture(scope="module")
def wheels(lab: Lab) -> Path:
    """A bundle for gateways."""
    argv = [sys.executable, "-m", "largeforge", "bundle", "--role", "gateway", "--output", "wheels"]
    made = subprocess.run(argv, cwd=lab.folder, env=lab.environment, capture_output=True, text=True, timeout=900)
    assert made.returncode == 0, made.stderr
    return lab.folder / "wheels"


@pytest.fixture(params=["bundle", "index"])
def packages(request: pytest.FixtureRequest, lab: Lab, wheels: Path) -> Iterator[dict[str, str]]:
    """Where a host gets packages from: a bundle that is brought, or an index that it reaches."""
    if request.param == "bundle":
        yield {"wheelhouse": str(wheels)}
        return
    argv = lab.hosts.inside(sys.executable, str(Path(__file__).parent / "index.py"), f"{NETWORK}.1", f"{wheels}/wheels")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield {"index_url": process.stdout.readline().strip()}
        process.kill()


@pytest.mark.thorough
def test_a_host_gets_its_environment_once(lab: Lab, packages: dict[str, str]) -> None:
    front = lab.inventory["hosts"]["h1"]
    front |= {"python": "", "packages": packages}
    lab.write_inventory()
    try:
        first = lab.deploy(lab.model("v1"))
        assert "environment for gateway" in first.output and lab.versions() == {"v1"}
        line = lab.hosts.run(lab.hosts["h1"], "systemctl", "cat", unit(lab.hosts["h1"], lab.hosts, "gateway")).stdout
        assert "/opt/largeforge/environments/" in line
        again = lab.deploy(lab.model("v1"))
        assert "nothing to change" in again.output and "environment" not in again.output, again.output
    finally:
        front["python"] = lab.inventory["common"]["python"]
        del front["packages"]
        lab.write_inventory()
        lab.deploy(lab.model("v1"))
        lab.hosts.run(lab.hosts["h1"], "rm", "-rf", "/opt/largeforge/environments")


@pytest.fixture
def hub(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A model hub that the hosts reach, and what tells it what to do."""
    argv = lab.hosts.inside(sys.executable, "-m", "tests.hosts.hub", f"{NETWORK}.1")
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    monkeypatch.setenv("HF_ENDPOINT", process.stdout.readline().strip())
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    def tell(word: str) -> None:
        process.stdin.write(f"{word}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"

    yield tell
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.mark.thorough
def test_hosts_fetch_models_of_a_hub_whole_and_verified(lab: Lab, hub: Callable[[str], None]) -> None:
    lab.deploy(lab.model("v1"))
    of_hub = "topology.experts.general.model=hub:acme/m"
    hub("damage")
    with lab.asked() as asked:
        refused = lab.run("+recipe=shop", of_hub)
        assert refused.code == 1 and "what came is not what the hub says" in refused.output, refused.output
        assert lab.versions() == {"v1"}
        hub("heal")
        lab.deploy(of_hub)
    assert lab.versions() == {"hub-1"} and not asked["failures"], asked
    assert "nothing to change" in lab.deploy(of_hub).output
    files = lab.hosts.run(
        lab.hosts["h2"], "sh", "-c", "cd /opt/largeforge/models && grep -l hub-1 */version.txt"
    ).stdout
    folder = files.rpartition("/")[0]
    there = lab.hosts.run(lab.hosts["h2"], "ls", "-A", f"/opt/largeforge/models/{folder}").stdout.split()
    assert sorted(there) == [".manifest.json", "config.json", "model.safetensors", "version.txt"]
    assert lab.hosts.run(lab.hosts["h2"], "ls", "-A", "/opt/largeforge/incoming").stdout == ""
    hub("commit hub-2")
    assert "acme/m at" in lab.run("+recipe=shop", of_hub, "mode=plan").output
    lab.deploy(of_hub)
    assert lab.versions() == {"hub-2"}


@pytest.mark.thorough
def test_secrets_reach_the_servers_and_no_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_HUB", "hf_only_for_servers")
    lab.deploy("+deploy.secrets.HF_TOKEN=env:SHOP_HUB")
    host = lab.hosts["h2"]
    pid = lab.hosts.run(host, "pgrep", "--full", "fake_vllm").stdout.split()[0]
    assert "HF_TOKEN=hf_only_for_servers" in lab.hosts.run(host, "cat", f"/proc/{pid}/environ").stdout
    places = ["/opt/largeforge", "/etc", "/var/lib/largeforge", "/var/log", "/run/largeforge"]
    assert lab.hosts.run(host, "grep", "-rl", "hf_only_for_servers", *places).stdout == ""
    found = [path for path in lab.folder.rglob("*") if path.is_file() and "hf_only" in path.read_text(errors="replace")]
    assert not found
    assert "nothing to change" in lab.deploy("+deploy.secrets.HF_TOKEN=env:SHOP_HUB").output
    monkeypatch.setenv("SHOP_HUB", "hf_renewed")
    assert (
        "secret HF_TOKEN  (another value)"
        in lab.run("+recipe=shop", "+deploy.secrets.HF_TOKEN=env:SHOP_HUB", "mode=plan").output
    )


@pytest.mark.thorough
def test_stopped_services_start_again_and_destroyed_ones_leave_nothing(lab: Lab) -> None:
    assert lab.run("stop", "lab", "shop").code == 0
    assert set(lab.states().values()) == {"inactive"}
    assert lab.run("restart", "lab", "shop").code == 0
    assert set(lab.states().values()) == {"active"}
    assert lab.run("destroy", "lab", "shop", "--yes").code == 0
    for host in lab.hosts:
        left = lab.hosts.run(
            host,
            "sh",
            "-c",
            "ls -d /opt/largeforge/* /etc/systemd/system/largeforge* /var/log/largeforge/* 2>/dev/null",
        )
        assert left.stdout == "", left.stdout
        assert "largeforge" not in lab.hosts.run(host, "systemctl", "list-units", "--no-legend", "largeforge-*").stdout
    assert "nothing is deployed" in lab.run("status", "lab").output
