"""How hosts are reached: the configuration that OpenSSH and pyinfra read, and command lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from largeforge.deploy import inventory
from largeforge.deploy.connection import Reach, configuration
from largeforge.errors import RecipeError
from largeforge.recipe.sections.hosts import Hosts


def hosts(**entries: dict[str, object]) -> Hosts:
    return Hosts.model_validate({"name": "lab", "hosts": entries, "ssh_config": "/nowhere"})


def test_a_jump_host_of_the_inventory_is_reached_as_it_is_described() -> None:
    made = hosts(
        front={"address": "front.lab", "user": "me", "port": 2222, "key": "/k"},
        box={"address": "10.0.0.2", "jump": "front"},
    )
    text = configuration(made)
    assert "Host 10.0.0.2\n  ProxyJump me@front.lab:2222\nHost front.lab\n  IdentityFile /k\n" in text
    assert text.rstrip().splitlines()[-3:] == ["Host *", "  StrictHostKeyChecking accept-new", "  ConnectTimeout 10"]


def test_your_own_configuration_fills_in_what_the_inventory_leaves_open(tmp_path: Path) -> None:
    own = tmp_path / "config"
    own.write_text("Host box\n  User someone\n")
    made = Hosts.model_validate({"name": "lab", "hosts": {"box": {"address": "box"}}, "ssh_config": str(own)})
    assert configuration(made).rstrip().endswith(f"Include {own}")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"user": "deploy"}, ["sudo", "-n", "--"]),
        ({"user": "root"}, []),
        ({"user": "deploy", "sudo": False}, []),
        ({"user": "deploy", "sudo_password": "env:LAB"}, ["sudo", "-k", "-S", "-p", "", "--"]),
    ],
)
def test_root_is_reached_through_sudo_where_that_is_needed(host: dict[str, object], words: list[str]) -> None:
    reach = Reach("box", hosts(box={"address": "box", **host}).hosts["box"], Path("/c"))
    assert reach.sudo == words
    line = reach.command(["id"], root=True)[-1]
    assert line.startswith("exec " + " ".join(words[:2])) and line.endswith("id")


def test_what_hosts_have_in_common_is_merged_deeply() -> None:
    made = Hosts.model_validate({
        "name": "lab", "common": {"user": "deploy", "paths": {"root": "/srv/lf"}, "labels": {"rack": "a"}},
        "hosts": {"one": {"address": "a"}, "two": {"address": "b", "user": "root", "labels": {"disk": "fast"}}},
    })  # fmt: skip
    one, two = made.hosts["one"], made.hosts["two"]
    assert (one.user, two.user) == ("deploy", "root")
    assert two.paths.root == "/srv/lf" and two.labels == {"rack": "a", "disk": "fast"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "-oProxyCommand=x"},
        {"address": "a", "sudo_password": "hunter2"},
        {"address": "a", "paths": {"root": "/x; rm"}},
    ],
)
def test_what_could_be_taken_for_an_option_or_is_a_secret_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        hosts(box=wrong)


def test_mistakes_of_an_inventory_are_told_with_file_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "lab.yaml").write_text("name: lab\nhosts:\n  box: {adress: a, port: 99999}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as refused:
        inventory.read("lab")
    said = str(refused.value)
    assert "hosts/lab.yaml: hosts.box.adress: no such key. Did you mean 'address'?" in said
    assert "hosts.box.address: Field required" in said and "hosts.box.port = 99999" in said
    with pytest.raises(RecipeError, match="Did you mean 'lab'"):
        inventory.read("labs")
