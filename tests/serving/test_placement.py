from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from largeforge.errors import ServingError
from largeforge.serving.placement import ServedExpert, adapter_rank, place, threads_each

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., ServedExpert]


def test_adapters_share_the_server_of_their_base(expert: Make) -> None:
    general, code = expert("general"), expert("code")
    mapper, support = expert("mapper", adapter_on="general"), expert("support", adapter_on="general")
    first, second = place([mapper, general, code, support])
    assert first.experts == (general, mapper, support)
    assert second.experts == (code,)
    assert first.title == "vLLM for general, mapper, support"


def test_every_fault_at_once(expert: Make) -> None:
    alone = expert("mapper", adapter_on="general")
    alone = ServedExpert("mapper", alone.location, alone.reference)
    whole = expert("support")
    whole = ServedExpert("support", whole.location, whole.reference, adapter_on="general")
    lost = ServedExpert("lost", "org/adapter", "hub:org/adapter", adapter_on="mapperr")
    with pytest.raises(ServingError) as failure:
        place([expert("general"), alone, whole, lost])
    assert [line.split(": ")[0] for line in str(failure.value).splitlines()] == [
        "topology.experts.mapper",
        "topology.experts.support",
        "topology.experts.lost.adapter_on = mapperr",
    ]
    assert "is a LoRA adapter of base; set adapter_on" in str(failure.value)


def test_largest_rank_counts_patterns(expert: Make) -> None:
    small, large = expert("a", adapter_on="g", rank=8), expert("b", adapter_on="g", rank=16)
    assert adapter_rank([small, large]) == 16
    (Path(small.location) / "adapter_config.json").write_text('{"r": 8, "rank_pattern": {"layers.0": 24}}')
    assert adapter_rank([small, large]) == 24


def test_rank_of_an_adapter_on_the_hub_is_not_known(expert: Make) -> None:
    assert adapter_rank([expert("a", adapter_on="g"), ServedExpert("b", "org/b", "hub:org/b", adapter_on="g")]) == 0


def test_adapter_config_without_a_rank(expert: Make) -> None:
    broken = expert("a", adapter_on="g")
    (Path(broken.location) / "adapter_config.json").write_text("{}")
    with pytest.raises(ServingError, match=r"adapter_config\.json does not give the adapter's rank"):
        adapter_rank([broken])


@pytest.mark.parametrize(("cores", "servers", "each"), [(1, 1, 1), (2, 1, 1), (8, 1, 7), (8, 2, 3), (2, 4, 1)])
def test_cores_are_shared(cores: int, servers: int, each: int) -> None:
    assert threads_each(cores, num_servers=servers) == each
