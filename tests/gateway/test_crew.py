"""Several workers are one gateway: one port, one limit, one state, one page of metrics; and one may die."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from largeforge.errors import ServingError
from largeforge.gateway.admin.state import merged as merge
from largeforge.gateway.crew.counts import Counts
from largeforge.gateway.crew.merging import merged
from largeforge.gateway.listening import bind


@pytest.fixture
def crew(start, threaded_fakes):
    return start({name: running.url for name, running in threaded_fakes.items()}, workers=2)


def chat(url, text="hi"):
    with httpx.Client(trust_env=False, timeout=30) as client:  # a connection of its own, for any worker
        return client.post(url + "/v1/chat/completions", json={"messages": [{"role": "user", "content": text}]})


def answered(url):
    """Return how many requests each worker has answered."""
    found = {}
    for family in text_string_to_metric_families(httpx.get(url + "/metrics", trust_env=False).text):
        for sample in family.samples:
            if sample.name == "largeforge_gateway_requests_total" and sample.labels["status"] == "200":
                worker = int(sample.labels["worker"])
                found[worker] = found.get(worker, 0) + sample.value
    return found


def workers_of(process):
    children = Path(f"/proc/{process.child.pid}/task/{process.child.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def test_workers_share_the_port_the_state_and_the_page_of_metrics(crew):
    for _ in range(40):
        assert chat(crew.url).status_code == 200
    counts = answered(crew.url)
    assert (sorted(counts), sum(counts.values())) == ([0, 1], 40)
    state = httpx.patch(
        crew.url + "/admin/state", json={"experts": {"support": "bad"}}, trust_env=False, headers=crew.operates
    )
    assert (state.status_code, state.json()["workers"]) == (200, 2)
    while {chat(crew.url, "my order").headers["x-largeforge-expert"] for _ in range(8)} != {"general"}:
        pass
    patch = {"topology": {"experts": {"general": {"keywords": ["parcel"]}}}}
    assert (
        httpx.patch(crew.url + "/admin/config", json=patch, trust_env=False, headers=crew.operates).status_code == 200
    )
    while {chat(crew.url, "my parcel").headers["x-largeforge-route"] for _ in range(8)} != {"keyword:parcel"}:
        pass
    crew.child.send_signal(signal.SIGTERM)
    code, _, err = crew.finish()
    assert (code, "Traceback" in err) == (0, False), err


def test_a_worker_that_dies_is_started_again_and_the_others_answer(crew):
    first = workers_of(crew)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    for _ in range(20):
        assert chat(crew.url).status_code == 200
    while len(set(workers_of(crew)) - set(first)) != 1 or len(answered(crew.url)) < 2:
        chat(crew.url)
    os.kill(crew.child.pid, signal.SIGKILL)  # nobody tells the workers
    crew.finish()  # standard error, which they share, is closed by the last of them


def test_the_limit_of_a_server_counts_the_requests_of_all_workers(start, threaded_fakes, make_file, tmp_path):
    general = threaded_fakes["general"]
    general.fake.finish = asyncio.Event()
    crew = start({"general": general.url}, workers=2, limit=3)
    statuses = []
    with ThreadPoolExecutor(12) as pool:
        for _ in range(12):
            pool.submit(lambda: statuses.append(chat(crew.url).status_code))
        state = {"in_flight": 0}
        while state["in_flight"] < 12:
            state = httpx.get(crew.url + "/admin/state", trust_env=False, headers=crew.operates).json()
        assert state["outstanding"] == {general.url: 3}
        assert len(general.fake.requests) == 3
        general.do(general.fake.finish.set)
    assert statuses == [200] * 12
    assert httpx.get(crew.url + "/admin/state", trust_env=False, headers=crew.operates).json()["outstanding"] == {
        general.url: 0
    }


def test_of_changes_at_the_same_time_one_wins_or_all_are_merged(crew):
    def send(method: str, values: dict[str, object], **headers: str) -> int:
        with httpx.Client(base_url=crew.url, trust_env=False, headers={**crew.operates, **headers}) as client:
            return client.request(method, "/admin/config", json=values).status_code

    client = httpx.Client(base_url=crew.url, trust_env=False, headers=crew.operates)
    with client, ThreadPoolExecutor() as pool:
        for turn in range(5):
            found = client.get("/admin/config")
            files = [found.json() for _ in range(6)]
            for number, file in enumerate(files):
                file["gateway"]["queue"]["wait_s"] = 10 + 10 * turn + number
            answers = list(pool.map(partial(send, "PUT", **{"if-match": found.headers["etag"]}), files))
            assert sorted(answers) == [200, 412, 412, 412, 412, 412], "nobody takes back what another has put"
            settle(crew, files[answers.index(200)])
        patches: list[dict[str, object]] = [
            {"topology": {"experts": {"support": {"keywords": ["invoice"]}}}},
            {"topology": {"experts": {"general": {"description": "of all"}}}},
            {"gateway": {"queue": {"wait_s": 9}}},
            {"gateway": {"request_timeout_s": 30}},
        ]
        before = client.get("/admin/config").json()
        assert list(pool.map(partial(send, "PATCH"), patches)) == [200] * 4
        settle(crew, reduce(merge, patches, before))


def settle(crew, file: object) -> None:
    """Wait until all workers serve a file."""
    deadline, seen = time.monotonic() + 20, [False]
    while not all(seen[-12:]) or len(seen) < 12:
        assert time.monotonic() < deadline, "the workers do not agree"
        with httpx.Client(base_url=crew.url, trust_env=False, headers=crew.operates) as client:
            seen.append(client.get("/admin/config").json() == file)


def test_a_port_in_use_and_a_worker_that_cannot_start_are_told(start, threaded_fakes, tmp_path):
    urls = {name: running.url for name, running in threaded_fakes.items()}
    with bind("127.0.0.1", 0) as taken:
        process = start(urls, workers=2, port=taken.getsockname()[1])
        code, _, err = process.finish()
    assert (code, "another process listens" in err) == (1, True), err
    (tmp_path / "file").write_text("")
    process = start(urls, workers=2, batches={"folder": str(tmp_path / "file" / "bulk")})
    code, _, err = process.finish()
    assert (code, "before all listened" in err, "cannot be made" in err) == (1, True, True), err


def test_metrics_of_all_workers_stay_one_valid_page():
    page = (
        b"# HELP up Is it up.\n# TYPE up gauge\nup 1.0\n"
        b"# HELP asked_total Asked.\n# TYPE asked_total counter\n"
        b'asked_total{expert="a{b} 1.0",status="200"} 3.0\n'
    )
    lines = merged({0: page, 3: page}).decode()
    assert lines.count("# TYPE up gauge") == 1
    found = {
        (sample.name, sample.labels["worker"], sample.labels.get("expert")): sample.value
        for family in text_string_to_metric_families(lines)
        for sample in family.samples
    }
    assert found == {
        ("up", "0", None): 1.0, ("up", "3", None): 1.0,
        ("asked_total", "0", "a{b} 1.0"): 3.0, ("asked_total", "3", "a{b} 1.0"): 3.0,
    }  # fmt: skip


def test_counts_are_seen_by_the_others_and_forgotten_with_their_worker(tmp_path):
    Counts.make(tmp_path, workers=3)
    crew = [Counts(tmp_path, worker=number, workers=3) for number in range(3)]
    here, there = crew[0].of("http://a"), crew[2].of("http://a")
    crew[1].of("http://b").add(5)
    here.add(2)
    there.add(1)
    assert (here.of_others, there.of_others, crew[1].of("http://a").of_others) == (1, 2, 3)
    crew[0].clear()
    assert there.of_others == 0


def test_two_plain_gateways_do_not_share_a_port():
    with bind("127.0.0.1", 0) as first, pytest.raises(ServingError, match="another process listens"):
        bind("127.0.0.1", first.getsockname()[1])
