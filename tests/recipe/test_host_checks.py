"""What an inventory must be for what a recipe does."""

from __future__ import annotations

from pathlib import Path

import pytest

from largeforge.deploy import desired, monitored
from largeforge.deploy.service import Layout
from largeforge.errors import RecipeError
from largeforge.recipe.compose import compose
from largeforge.recipe.host_checks import OWN_PARTS, training_hosts
from largeforge.recipe.validate import validate


def problems(*words: str) -> str:
    with pytest.raises(RecipeError) as refused:
        validate(compose(["+recipe=deploy_support", *words]))
    return str(refused.value)


def test_the_shipped_deployment_is_sound() -> None:
    recipe = validate(compose(["+recipe=deploy_support"]))
    assert recipe.deploy.name == "support" and set(recipe.hosts.hosts) == {"front", "box-1", "box-2"}


def test_questions_cannot_be_asked_at_a_hosts_loopback() -> None:
    assert "gateway.host = '127.0.0.1': the gateway is asked from this machine" in problems("gateway.host=127.0.0.1")
    validate(compose(["+recipe=deploy_support", "gateway.host=127.0.0.1", "verify.questions=[]"]))


def test_rules_of_placement_name_experts() -> None:
    said = problems("+deploy.placing.suport.spread=require")
    assert "deploy.placing.suport" in said and "Did you mean 'support'?" in said


@pytest.mark.parametrize("name", OWN_PARTS)
def test_no_server_is_called_as_a_part_of_every_deployment(name: str) -> None:
    expert = f"+topology.experts.{name}={{model: path:m}}"
    said = problems(expert)
    assert f"topology.experts.{name} = '{name}': is what a part of every deployment is called" in said
    assert "any name but alertmanager, gateway, " in said and said.startswith("1 problem")
    validate(compose(["+recipe=deploy_support", expert.replace("{", "{adapter_on: general, ")]))


def test_the_parts_are_those_that_there_are() -> None:
    parts = ("PROMETHEUS", "ALERTMANAGER", "HOOKS", "NODE", "SERVERS", "GPUS", "LOGS")
    own = {getattr(monitored, part) for part in parts}
    layout = Layout("/opt", "/var/lib", "/var/log", "shop", "largeforge", "")
    assert set(OWN_PARTS) == {desired.GATEWAY, *own, monitored._texts(layout).rpartition("/")[2]}


def test_no_server_is_called_as_a_replica_of_another() -> None:
    second = "+topology.experts.general-2={model: path:m}"
    said = problems(second)
    assert "topology.experts.general-2 = 'general-2': is what a replica of general is called on hosts" in said
    assert "with topology.experts.general.replicas = 2 any name but general-2 will do." in said
    validate(compose(["+recipe=deploy_support", second.replace("-2", "-3")]))
    validate(compose(["+recipe=deploy_support", second, "topology.experts.general.replicas=1"]))


def test_secrets_are_references(tmp_path: Path) -> None:
    assert "deploy.secrets.HF_TOKEN" in problems("+deploy.secrets.HF_TOKEN=hf_abcdefgh")


def together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inventory: str, *words: str) -> list[str]:
    """Return the words of a training over all hosts of an inventory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts/pair.yaml").write_text(f"# Two.\nname: pair\nhosts:\n{inventory}")
    size = ("hardware=h200", "hardware.num_gpus=4", "hardware.cores=16")
    return ["+recipe=sft_qwen7b", "launcher=multi_node", "hosts=pair", *size, *words]


def test_hosts_that_train_together_reach_each_other_and_this_machine_is_one_of_them_by_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = "  a: {address: 127.0.0.1}\n  b: {address: node-b}\n  c: {address: local}\n"
    words = together(tmp_path, monkeypatch, inventory)
    with pytest.raises(RecipeError) as refused:
        validate(compose(words))
    assert "hosts.hosts.a.address = '127.0.0.1': other hosts do not reach it there" in str(refused.value)
    assert "hosts.hosts.c.address = 'local': trains with others only as one of them, over ssh" in str(refused.value)


def test_labels_choose_the_hosts_that_train_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = "".join(
        f"  {name}: {{address: {name}, labels: {{rack: {rack}}}}}\n" for name, rack in zip("abc", "xyx", strict=True)
    )
    recipe = validate(compose(together(tmp_path, monkeypatch, inventory, "+hosts.queue.labels={rack: x}")))
    assert list(training_hosts(recipe)) == ["a", "c"]


def test_what_the_servers_run_on_is_named_and_not_read_from_this_machine() -> None:
    said = problems("hardware=auto")
    assert "hardware = auto: reads this machine, and the servers run on box-1, box-2: name what is there" in said
    assert said.startswith("1 problem") and "hardware=cpu or a GPU of conf/hardware/" in said
    assert validate(compose(["+recipe=deploy_support", "hardware=h100"])).hardware.device == "cuda"
