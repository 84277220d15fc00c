"""A registry of a team: a real MLflow server with a real PostgreSQL and an S3 store, and several people at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from largeforge.errors import RegistryError
from largeforge.recipe import model_ref
from largeforge.recipe.schema import Registry
from largeforge.registry import GateResult, Lineage, ModelRegistry, backup, restoring, retention
from largeforge.registry.promotion import demote, promote
from tests.e2e.stores import S3, s3
from tests.e2e.workspace import wait_for
from tests.registry.servers import mlflow_server
from tests.system.postgres import postgres

pytestmark = pytest.mark.system

PERSON = """
import sys, time
from pathlib import Path
from largeforge.recipe import model_ref
from largeforge.recipe.schema import Registry
from largeforge.registry import Lineage, ModelRegistry
from largeforge.registry.promotion import promote
url, cache, go, action, name, given = sys.argv[1:]
registry = ModelRegistry(Registry(uri=url, artifacts=cache))
registry.list_models()
Path(go + "." + action + Path(cache).name).touch()
while not Path(go).exists():
    time.sleep(0.01)
if action == "register":
    made = registry.register(
        name, Path(given), kind="model", lineage=Lineage("r", "d", "l"), metrics={"a": 1.0}, alias="champion"
    )
    print(made.version)
else:
    promote(registry, model_ref.parse(f"registry:{name}/{given}"), alias="champion", why=f"better {given}")
"""


class Team:
    """People who share a registry, each with a machine of their own."""

    def __init__(self, url: str, store: S3, home: Path):
        self.url, self.store, self.home = url, store, home

    def registry(self, who: str = "me") -> ModelRegistry:
        return ModelRegistry(Registry(uri=self.url, artifacts=str(self.home / who)))

    def model(self, seed: int, *, parts: int = 1, size: int = 3000) -> Path:
        folder = self.home / "models" / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
        chance = random.Random(seed)
        for number in range(parts):
            (folder / f"model-{number}.safetensors").write_bytes(chance.randbytes(size))
        return folder

    def register(self, name: str, seed: int, alias: str = "champion", who: str = "me") -> int:
        gate = GateResult("exact_match", ">= 0.85", 0.9, True)
        lineage = Lineage("r", "d", "l", gates=[gate])
        made = self.registry(who).register(
            name, self.model(seed), kind="model", lineage=lineage, metrics={"a": 1.0}, alias=alias
        )
        return made.version

    def at_once(self, *work: tuple[str, str, str]) -> list[str]:
        """Let people do things at the same instant, and return what each printed."""
        go = self.home / f"go-{random.getrandbits(32)}"
        people = [self.person(go, f"person-{number}", *each) for number, each in enumerate(work)]
        wait_for(lambda: len(list(self.home.glob(f"{go.name}.*"))) == len(people) or any(p.poll() for p in people))
        go.touch()
        told = [person.communicate(timeout=120) for person in people]
        assert [person.returncode for person in people] == [0] * len(people), told
        return [out.strip() for out, _ in told]

    def person(self, go: Path, who: str, action: str, name: str, given: str) -> subprocess.Popen[str]:
        words = [self.url, str(self.home / who), str(go), action, name, given]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.Popen(
            [sys.executable, "-c", PERSON, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment, cwd=self.home,
        )  # fmt: skip

    def objects(self, part: str = "") -> list[str]:
        found = self.store._client.list_objects_v2(Bucket="models").get("Contents", [])
        return sorted(entry["Key"] for entry in found if part in entry["Key"])


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    home = tmp_path_factory.mktemp("team")
    with s3() as store, postgres() as database:
        store.make("models")
        endpoint = store.environment["AWS_ENDPOINT_URL"]
        environment = {**store.environment, "MLFLOW_S3_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
        with mlflow_server(home, database, "s3://models/team", environment) as url:
            yield Team(url, store, home)


def ref(text: str) -> model_ref.ModelRef:
    return model_ref.parse(f"registry:{text}")


def test_the_same_model_registered_twice_at_one_instant_is_one_version(team: Team) -> None:
    same, other = str(team.model(1)), str(team.model(2))
    told = team.at_once(("register", "m", same), ("register", "m", same), ("register", "m", other))
    registry = team.registry()
    versions = registry.versions("m")
    assert sorted({*told}) == [str(version.version) for version in versions]
    assert len(versions) == 2
    assert told[0] == told[1]
    for version in versions:
        registry.verify(version)
    trail = registry.log("m")
    assert [entry.state for entry in trail] == ["done"] * len(trail)
    assert [entry.number for entry in trail] == sorted({entry.number for entry in trail}), "one after the other"
    runs = {key.split("/")[-4] for key in team.objects("config.json")}
    assert len(runs) == 2, "the files of the one that came second were taken away"


def test_two_promotions_at_one_instant_lose_nothing(team: Team) -> None:
    for seed in (11, 12, 13):
        team.register("p", seed, alias="champion" if seed == 11 else "")
    team.at_once(("promote", "p", "2"), ("promote", "p", "3"))
    registry = team.registry()
    first, second = [entry for entry in registry.log("p") if entry.action == "promote"]
    assert {first.version, second.version} == {"2", "3"}
    assert (first.before, second.before) == ("1", first.version), "the second one saw what the first one did"
    assert {first.why, second.why} == {"better 2", "better 3"}
    held = registry.list_models()[-1].aliases
    assert held == {"champion": int(second.version), "previous": int(first.version)}
    demote(registry, "p", alias="champion", why="back")
    demote(registry, "p", alias="champion", why="and back again")
    assert registry.find(ref("p")).version == 1


def test_a_kill_in_the_middle_of_an_upload_leaves_nothing_visible(team: Team) -> None:
    large = team.model(21, parts=40, size=400_000)
    before = team.objects()
    go = team.home / "go-kill"
    go.touch()
    person = team.person(go, "killed", "register", "k", str(large))
    wait_for(lambda: len(team.objects()) > len(before) + 2 or person.poll() is not None)
    person.kill()
    person.communicate()
    half = set(team.objects()) - set(before)
    assert 0 < len(half) < 41, "it was not in the middle"
    registry = team.registry()
    assert registry.versions("k") == []
    with pytest.raises(RegistryError, match="no model 'k'"):
        registry.resolve(ref("k"))
    assert team.register("k", 22) == 1
    registry.verify(registry.find(ref("k/1")))
    assert not half & set(team.objects()), "the next registration clears it away"


def test_damage_in_the_store_is_named_and_mended(team: Team) -> None:
    team.register("d", 31)
    version = team.registry().find(ref("d"))
    (key,) = team.objects(f"{version.run_id}/artifacts/model/model-0")
    whole = team.store._client.get_object(Bucket="models", Key=key)["Body"].read()
    team.store.put(f"models/{key}", whole[:1000])
    elsewhere = team.registry("elsewhere")
    with pytest.raises(RegistryError, match=r"d/1 is damaged: .*model-0\.safetensors has 1000 bytes instead of 3000"):
        elsewhere.resolve(ref("d"))
    with pytest.raises(RegistryError, match=r"d/1 is damaged in its store: model-0\.safetensors \(1000 bytes instead"):
        promote(elsewhere, ref("d/1"), alias="candidate", why="x")
    assert team.register("d", 31, who="other") == 1
    elsewhere.resolve(ref("d"))
    team.store.put(f"models/{key}", bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(RegistryError, match=r"model-0\.safetensors has sha256"):
        team.registry("third").verify(version)
    team.register("d", 31, who="fourth")
    team.registry("third").verify(version)
    team.store._client.delete_object(Bucket="models", Key=key)
    with pytest.raises(RegistryError, match=r"model-0\.safetensors is missing"):
        team.registry("third").verify(version)
    assert team.register("d", 32) == 2


def test_what_is_deleted_is_gone_from_the_store_and_a_backup_brings_it_back(team: Team) -> None:
    for seed in (41, 42, 43):
        team.register("b", seed)
    registry = team.registry()
    first = registry.find(ref("b/1"))
    assert team.objects(first.run_id)
    for doomed in retention.plan(registry, "b", keep=1).doomed:
        retention.delete(registry, doomed, why="old")
    assert not team.objects(first.run_id)
    assert [version.version for version in registry.versions("b")] == [2, 3]
    report = backup.backup(registry, team.home / "backup")
    sound = [version for model in registry.list_models() for version in model.versions if version.name != "d"]
    assert report.versions >= len(sound)
    assert backup.backup(registry, team.home / "backup").copied == 0, "nothing is new"
    snapshot = backup.read(team.home / "backup")
    kept = snapshot.models["b"]
    snapshot.models = {"b": kept}
    with pytest.raises(RegistryError, match="has models of these names already: b"):
        restoring.restore(registry, team.home / "backup", snapshot)
    snapshot.models = {"again": kept}  # as if the server had lost it
    snapshot.trail = [{**entry, "model": "again"} for entry in snapshot.trail if entry["model"] == "b"]
    assert restoring.restore(registry, team.home / "backup", snapshot).versions == 2
    lost, found = registry.versions("b"), registry.versions("again")
    assert [(each.version, each.seal, each.aliases) for each in found] == [
        (each.version, each.seal, each.aliases) for each in lost
    ]
    for version in found:
        registry.verify(version)
    told = [(entry.action, entry.version, entry.why) for entry in registry.log("again")]
    assert told[:-1] == [(entry.action, entry.version, entry.why) for entry in registry.log("b")]
    assert told[-1][0] == "restore"
