"""A deployment with real vLLM on two of three hosts, whose model is replaced while a client asks all the time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.lab import LENT, PORT, PYTHON, Lab
from tests.hosts.machines import ROOT, machines
from tests.hosts.test_autoscale import scaling

pytestmark = pytest.mark.thorough
SETTINGS = (
    "serving.max_model_len=256", "serving.max_num_seqs=8", "serving.cpu_kvcache_gib=1", "serving.enforce_eager=true",
    "serving.startup_timeout_s=600", "deploy.update.drain_timeout_s=60",
)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts, a gateway on one and vLLM on the others, and two models that answer differently."""
    with machines(3, bind=LENT) as hosts:
        made = Lab(tmp_path_factory.mktemp("real"), hosts)
        made.inventory["common"]["python"] = PYTHON
        made.write_inventory()
        made.prepare()
        _write_models(made.folder / "models")
        yield made


def _write_models(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    argv = [sys.executable, str(ROOT / "tests/serving/tiny_model.py"), str(folder / "tiny")]
    subprocess.run(argv, check=True, capture_output=True)
    for name in ("one", "two"):
        shutil.copytree(folder / "tiny" / "base", folder / name)
    weights = folder / "two" / "model.safetensors"
    save_file({key: value[::-1].copy() for key, value in load_file(weights).items()}, weights, {"format": "pt"})


def model(name: str) -> list[str]:
    return [f"topology.experts.general.model=path:models/{name}", *SETTINGS]


def answers(lab: Lab) -> set[str]:
    """Return what is answered to one question; both servers are asked."""
    body = {
        "model": "general", "messages": [{"role": "user", "content": "What is a router?"}], "max_tokens": 16,
        "temperature": 0,
    }  # fmt: skip
    url = f"http://{lab.hosts['h1'].address}:{PORT}/v1/chat/completions"
    argv = lab.hosts.inside("curl", "-s", "--noproxy", "*", "--json", json.dumps(body), url)
    said = [json.loads(subprocess.run(argv, capture_output=True).stdout) for _ in range(6)]
    return {one["choices"][0]["message"]["content"] for one in said}


def test_the_model_of_real_servers_is_replaced_and_brought_back_and_no_request_fails(lab: Lab) -> None:
    lab.deploy(*model("one"))
    (first,) = answers(lab)
    assert "nothing to change" in lab.deploy(*model("one")).output
    with lab.asked(timeout_s=300) as asked:
        lab.deploy(*model("two"))
    assert not asked["failures"] and len(asked["answered"]) == 2, asked
    (second,) = answers(lab)
    assert first != second
    assert {entry["mode"] for entry in lab.deployed()["replaced"]} == {"fixed"}
    damaged = lab.folder / "models" / "damaged"
    shutil.copytree(lab.folder / "models" / "one", damaged)
    weights = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with lab.asked(timeout_s=300) as asked:
        refused = lab.run("+recipe=shop", *model("damaged"), timeout_s=600)
        assert refused.code == 1 and "The release before serves on" in refused.output, refused.output
        assert answers(lab) == {second}
        back = lab.run("rollback", "lab", "shop", timeout_s=600)
    assert back.code == 0 and answers(lab) == {first}, back.output
    assert not asked["failures"], asked


def test_real_servers_start_under_load_and_stop_without_it_and_no_request_fails(lab: Lab) -> None:
    scaled = (
        "autoscaling=slo", "autoscaling.interval_s=2", "autoscaling.up_s=4", "autoscaling.down_s=20",
        "autoscaling.in_flight=0.125",
    )  # fmt: skip
    lab.deploy(*model("one"), *scaled)
    with scaling(lab) as process:
        lab.await_line(process, "general-2 on h3: stopped")
        with lab.asked(timeout_s=300) as asked:
            said = lab.await_line(process, "general-2 on h3: answers, and gets requests")
            assert said.count("general-2 on h3: started") == 1 and "requests in flight" in said, said
            assert len(answers(lab)) == 1
        lab.await_line(process, "general-2 on h3: stopped")
    assert not asked["failures"] and asked["answered"], asked
