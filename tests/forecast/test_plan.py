"""Plans are forecast stage by stage, and one that does not fit is refused with what to paste."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from largeforge.errors import FitError
from largeforge.estimate.memory import GIB
from largeforge.forecast.plan import refuse_what_does_not_fit
from largeforge.hardware import Machine
from largeforge.recipe import trl_fields

SFT, SERVE = "+recipe=sft_qwen7b", "+recipe=serve_qwen7b"
TOO_MANY_ROWS = ("method.per_device_train_batch_size=16", "method.gradient_checkpointing=off")


def refusal(plan):
    with pytest.raises(FitError) as caught:
        refuse_what_does_not_fit(plan)
    return str(caught.value)


def pasted(message):
    """Return the overrides of each fix of a message that says how many GiB it would need, and that it fits."""
    lines = re.findall(r"^  (\S.*?)  +saves .*?: ([\d.]+) GiB, (?:just )?fits", message, flags=re.MULTILINE)
    return [(shlex.split(words), float(size)) for words, size in lines]


def test_a_recipe_for_a_24_gb_card_fits_one_and_says_where_the_memory_goes(forecast_of):
    found = forecast_of(SFT).forecasts["train"]
    assert found.verdict == "fits"
    parts = found.memory.parts
    assert parts["weights"] == pytest.approx(7_615_616_512 * 2, rel=0.01)
    assert parts["optimizer"] < parts["weights"] / 20  # an adapter alone is trained
    assert sum(parts.values()) == pytest.approx(found.memory.total)


def test_every_shipped_recipe_fits_the_hardware_that_it_names(forecast_of):
    for recipe in ("sft_qwen7b", "dpo_qwen7b", "serve_qwen7b", "serve_gpt_oss_20b", "quickstart"):
        for name, found in forecast_of(f"+recipe={recipe}").forecasts.items():
            elsewhere = ("unknown",) if name == "merge" else ()  # in the memory of a host that is not this one
            assert found.verdict in ("fits", "tight", *elsewhere), f"{recipe}: {name}: {found.as_dict()}"


def test_what_does_not_fit_is_refused_with_overrides_that_make_it_fit_when_they_are_pasted(forecast_of):
    fixes = pasted(refusal(forecast_of(SFT, *TOO_MANY_ROWS)))
    assert fixes
    for words, size in fixes:
        found = forecast_of(SFT, *TOO_MANY_ROWS, *words).forecasts["train"]
        assert found.verdict in ("fits", "tight")
        assert found.memory.total / GIB == pytest.approx(size, abs=0.06)  # as printed, with one decimal


def test_a_combination_is_offered_where_no_single_change_is_enough_and_is_no_stronger_than_needed(forecast_of):
    words, _ = pasted(refusal(forecast_of(SFT, *TOO_MANY_ROWS)))[0]
    keys = dict(word.split("=") for word in words)
    assert keys["method.gradient_checkpointing"] == "on"
    rows = int(keys["method.per_device_train_batch_size"])
    assert rows > 1
    twice = (f"method.per_device_train_batch_size={2 * rows}", "method.gradient_checkpointing=on")
    assert forecast_of(SFT, *twice).forecasts["train"].verdict == "too big"
    assert rows * int(keys["method.gradient_accumulation_steps"]) == 16 * 16  # a step sees as many rows as before


def test_training_all_weights_is_answered_with_an_adapter_and_the_hardware_that_would_do(forecast_of):
    message = refusal(forecast_of(SFT, "adapter=none", "merge=false"))
    assert "adapter=lora" in message
    assert "it would fit on hardware=h100" in message
    assert forecast_of(SFT, "adapter=none", "merge=false", "hardware=h100").forecasts["train"].verdict == "fits"


def test_fixes_of_a_job_among_several_carry_its_name(forecast_of):
    big = "jobs.mapper.method.per_device_train_batch_size=8192"
    message = refusal(forecast_of("+recipe=quickstart", big, "hardware=cpu", "hardware.memory_gib=6"))
    assert message.startswith("mapper.train does not fit")
    words, _ = pasted(message)[0]
    assert all(word.startswith("jobs.mapper.") for word in words)


def test_a_server_that_cannot_hold_one_long_conversation_is_refused_as_vllm_would(forecast_of):
    plan = forecast_of("+recipe=serve_qwen7b", "serving.max_model_len=32768", "hardware=rtx_4060_ti_16gb")
    message = refusal(plan)
    assert "serve/general does not fit" in message
    assert "would fit on hardware=" in message
    longer = forecast_of("+recipe=serve_qwen7b", "serving.max_model_len=131072")
    words = next(words for words, _ in pasted(refusal(longer)) if words[0].startswith("serving.max_model_len"))
    assert forecast_of("+recipe=serve_qwen7b", *words).forecasts["serve/general"].verdict in ("fits", "tight")


def test_servers_that_share_a_gpu_are_refused_once_and_offered_shares_with_which_all_fit(forecast_of):
    two = (SERVE, "+topology.experts.second.model=qwen", "hardware=h100")
    message = refusal(forecast_of(*two))
    assert message.startswith("serve/general and serve/second do not fit: the servers share a GPU")
    assert re.findall(r"^  (\S+)", message, flags=re.MULTILINE) == ["serving.gpu_memory_utilization=0.47"]
    for found in forecast_of(*two, "serving.gpu_memory_utilization=0.47").forecasts.values():
        assert found.verdict == "fits"
    assert "serving.gpu_memory_utilization=0.47" not in refusal(forecast_of(*two[:2]))  # 14 GiB of weights in 11


def test_replicas_count_one_by_one(forecast_of):
    two = (SERVE, "topology.experts.general.replicas=2", "hardware=h100")
    message = refusal(forecast_of(*two))
    assert message.startswith("serve/general and serve/general-2 do not fit: the servers share a GPU")
    assert re.findall(r"^  (\S+)", message, flags=re.MULTILINE) == ["serving.gpu_memory_utilization=0.47"]
    host = (SERVE, "hardware=cpu", "serving.cpu_kvcache_gib=8", "topology.experts.general.replicas=3")
    one = forecast_of(*host, "hardware.memory_gib=640").forecasts["serve/general-3"].memory.total / GIB
    message = refusal(forecast_of(*host, f"hardware.memory_gib={one * 2.5}"))
    assert "GiB together, and this machine has" in message
    refuse_what_does_not_fit(forecast_of(*host, f"hardware.memory_gib={one * 4}"))


def test_a_number_of_gpus_that_does_not_divide_the_heads_is_answered_with_one_that_does(forecast_of):
    eight = (SERVE, "hardware.num_gpus=8", "serving.tensor_parallel_size=8")
    message = refusal(forecast_of(*eight))
    assert re.findall(r"^  (\S+)", message, flags=re.MULTILINE) == ["serving.tensor_parallel_size=4"]
    assert forecast_of(*eight[:2], "serving.tensor_parallel_size=4").forecasts["serve/general"].verdict == "fits"


def test_a_context_beyond_the_models_is_refused_unless_an_option_of_vllm_stretches_it(forecast_of):
    long = (SERVE, "hardware=h100", "serving.max_model_len=131072")
    message = refusal(forecast_of(*long))
    assert "longer than the model's 32768 positions" in message
    assert re.findall(r"^  (\S+)", message, flags=re.MULTILINE) == ["serving.max_model_len=32768"]
    stretched = "+serving.extra.hf-overrides='{}'"
    assert forecast_of(*long, stretched).forecasts["serve/general"].verdict == "fits"


def test_requests_that_no_conversation_has_room_for_are_mentioned(forecast_of):
    words = ("serving.targets.prompt_tokens=20000", "serving.targets.requests_per_second=1")
    found = forecast_of(SERVE, *words).forecasts["serve/general"]
    assert any("requests of 20256 tokens" in text and "allows 16384" in text for text in found.assumptions)
    assert not forecast_of("+recipe=quickstart").forecasts["serve/general"].assumptions  # nothing was asked for


def test_what_cures_an_earlier_stage_is_named_for_a_later_one_instead_of_more_fixes(forecast_of):
    words = (SFT, "model=qwen2_5_14b_instruct", "adapter=none", "merge=false")
    _, _, later = refusal(forecast_of(*words)).partition("evaluate does not fit")
    evaluated, _, served = later.partition("parity does not fit")
    assert "With adapter=qlora it fits, too." in evaluated
    assert "Overrides" not in evaluated
    assert "parity.check=never" in served, "vLLM has no room for 28 GB of weights, whatever trained them"


def test_a_large_adapter_is_answered_with_a_smaller_one_of_the_same_scale(forecast_of):
    large = ("adapter.lora_r=1024", "adapter.lora_alpha=2048")
    words, _ = pasted(refusal(forecast_of(SFT, *large)))[0]
    keys = dict(word.split("=") for word in words)
    assert int(keys["adapter.lora_alpha"]) == 2 * int(keys["adapter.lora_r"])
    assert forecast_of(SFT, *large, *words).forecasts["train"].verdict in ("fits", "tight")


def test_merging_counts_in_the_hosts_memory_and_only_where_that_is_known(forecast_of):
    assert forecast_of(SFT, "hardware=l4").forecasts["merge"].verdict == "unknown"
    plan = forecast_of(SFT, "hardware=cpu", "hardware.memory_gib=8")
    _, _, merge = refusal(replace(plan, forecasts={"merge": plan.forecasts["merge"]})).partition("merge does not fit")
    assert "this machine has 8.0 GiB" in merge
    assert "merge=false" in merge


def test_of_many_stages_that_do_not_fit_the_first_are_explained_and_the_rest_named(forecast_of, monkeypatch):
    monkeypatch.setattr("largeforge.forecast.plan.MOST_EXPLAINED", 2)
    message = refusal(forecast_of("+recipe=quickstart", "hardware.memory_gib=0.3"))
    assert message.count("does not fit: ") == 2
    assert "Nor do mapper.train, mapper.evaluate, support.train, support.evaluate, serve/general fit" in message


def test_stages_that_are_done_are_not_refused(forecast_of):
    plan = forecast_of(SFT, *TOO_MANY_ROWS)
    assert "train does not fit" in refusal(plan)
    refuse_what_does_not_fit(plan, done=["train"])


def test_more_gpus_than_there_are_are_answered_with_as_many_as_there_are(forecast_of):
    message = refusal(forecast_of("+recipe=serve_qwen7b", "serving.tensor_parallel_size=2"))
    assert "needs 2 GPUs, and there is 1" in message
    assert "serving.tensor_parallel_size=1  fits" in message


def test_the_expert_that_a_recipe_itself_registers_has_a_shape_before_it_is_trained(forecast_of):
    found = forecast_of("+recipe=quickstart").forecasts["serve/general"]
    assert found.serving.memory.sequences(128) > 100


def test_trainings_side_by_side_on_a_cpu_count_together(forecast_of):
    wide = [f"jobs.{name}.method.per_device_train_batch_size=2048" for name in ("mapper", "support")]
    words = ("+recipe=quickstart", "hardware=cpu", "hardware.cores=2", *wide)
    one = forecast_of(*words).forecasts["mapper.train"].memory.total / GIB
    plan = forecast_of(*words, f"hardware.memory_gib={one * 1.5}")
    message = refusal(plan)
    assert "2 trainings run side by side" in message
    refuse_what_does_not_fit(forecast_of(*words, f"hardware.memory_gib={one * 2.5}"))


def test_what_is_not_known_is_said_and_refuses_nothing(forecast_of):
    plan = forecast_of(SFT, "model.ref=hub:nobody/unheard-of", "~model.architecture")
    found = plan.forecasts["train"]
    assert found.verdict == "unknown"
    assert any("hub:nobody/unheard-of" in text for text in found.assumptions)
    refuse_what_does_not_fit(plan)


def test_an_optimizer_that_is_not_known_leaves_the_memory_open(forecast_of):
    found = forecast_of(SFT, "method.optim=sophia").forecasts["train"]
    assert found.memory is None
    assert any("sophia" in text for text in found.assumptions)
    assert found.hours is not None


def test_weights_that_are_stored_quantized_are_counted_as_they_are_trained(forecast_of):
    found = forecast_of(SFT, "model=gpt_oss_20b", "hardware=h100").forecasts["train"]
    assert found.memory.parts["weights"] == pytest.approx(20.9e9 * 2, rel=0.01)
    assert any("is stored as mxfp4; its training is counted in bf16" in text for text in found.assumptions)


def test_a_gpu_whose_rates_nobody_knows_leaves_the_time_open_and_says_so(forecast_of):
    found = forecast_of(SFT, "hardware.bf16_tflops=0").forecasts["train"]
    assert found.hours is None
    assert any("how long training takes is not known: the rates" in text for text in found.assumptions)


def test_time_and_price_come_from_the_profile_and_scale_with_the_work(forecast_of):
    once = forecast_of(SFT, "method.num_train_epochs=100").forecasts["train"]
    twice = forecast_of(SFT, "method.num_train_epochs=200").forecasts["train"]
    assert once.hours.low < once.hours.expected < once.hours.high
    assert twice.hours.expected == pytest.approx(2 * once.hours.expected, rel=0.05)
    assert once.cost.expected == pytest.approx(once.hours.expected * 0.34, rel=0.5)  # a few tenths of a dollar an hour
    assert forecast_of(SFT, "hardware.price_per_hour=0").forecasts["train"].cost is None
    free = forecast_of(SFT, "hardware.price_per_hour=7", "method.num_train_epochs=100").forecasts["train"]
    assert free.cost.expected == pytest.approx(7 * free.hours.expected)


def test_rows_that_were_counted_with_the_tokenizer_are_not_taken_for_the_longest_allowed(forecast_of, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = [{"prompt": "a " * 100, "response": "a " * size} for size in range(20, 60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = (SFT, "dataset.path=rows.jsonl", "method.max_length=256")
    bounded = forecast_of(*words).forecasts["train"]
    counted = forecast_of(*words, f"model.ref=path:{folder}").forecasts["train"]
    assert counted.training.load.length < 250
    assert counted.memory.total < bounded.memory.total
    assert any("max_length = 256" in text for text in bounded.assumptions)
    assert not any("max_length" in text for text in counted.assumptions)


def test_without_a_tokenizer_no_row_has_more_tokens_than_bytes(forecast_of, tmp_path):
    short = '{"prompt": "Where is it?", "response": "On its way."}\n'
    (tmp_path / "rows.jsonl").write_text(short * 50)
    words = (SFT, "dataset.path=rows.jsonl", "method.max_length=131072")
    found = forecast_of(*words).forecasts["train"]
    assert found.verdict == "fits"
    assert len("Where is it?On its way.") < found.training.load.length < 300
    (tmp_path / "heldout.jsonl").write_text(json.dumps({"prompt": "long " * 4000, "response": "b"}) + "\n")
    apart = forecast_of(*words, "dataset.heldout_path=heldout.jsonl").forecasts
    assert apart["train"].memory.total == pytest.approx(found.memory.total)
    assert apart["evaluate"].memory.total > 1.2 * forecast_of(*words).forecasts["evaluate"].memory.total


def test_gpus_that_the_launcher_leaves_alone_are_mentioned(forecast_of):
    assumptions = forecast_of(SFT, "hardware.num_gpus=4").forecasts["train"].assumptions
    assert "1 of 4 GPUs trains (launcher=single)" in assumptions


def test_what_an_earlier_run_reached_replaces_the_profile(forecast_of):
    from largeforge.forecast.training import remember

    words = ("+recipe=quickstart", "hardware=cpu", "hardware.cores=2")
    before = forecast_of(*words)
    done = before.forecasts["mapper.train"].training.schedule
    remember(before, "mapper.train", {"tokens": done.tokens, "tokens_per_s": done.tokens / 7200})
    after = forecast_of(*words).forecasts["mapper.train"]
    assert after.hours.low < 2 < after.hours.high
    assert "earlier run" in after.training.basis
    assert "earlier run" not in before.forecasts["mapper.train"].training.basis


@pytest.mark.parametrize("mode", [["mode=plan"], []])
def test_the_command_ends_with_2_before_anything_is_written(tmp_path, mode):
    command = [sys.executable, "-m", "largeforge", SFT, "adapter=none", "merge=false", *mode]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "adapter=lora" in done.stderr
    assert not (tmp_path / "runs").exists()
    assert ("too big" in done.stdout) == bool(mode)


def test_a_user_who_knows_better_goes_on_with_a_warning(tmp_path):
    words = [SFT, "adapter=none", "merge=false", "memory_check=warn", "mode=plan"]
    done = subprocess.run([sys.executable, "-m", "largeforge", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "too big" in done.stdout
    assert "warning: train does not fit" in done.stderr


def test_part_of_a_cpu_has_part_of_its_rate():
    whole = Machine("cpu", "", 0, 16, 4)
    assert whole.share(0) == whole
    assert whole.share(2).cores == 2
    gpu = Machine("cuda", "H100", 1, 80, 4)
    assert gpu.share(1) == gpu


def test_a_load_that_is_asked_for_is_answered_with_requests_in_flight(forecast_of):
    words = ("+recipe=serve_qwen7b", "hardware=l4", "serving.max_model_len=8192")
    idle = forecast_of(*words).forecasts["serve/general"]
    assert idle.as_dict()["serving"]["in_flight"] is None
    one, two = (
        forecast_of(*words, f"serving.targets.requests_per_second={rate}").forecasts["serve/general"].serving
        for rate in (0.5, 1)
    )
    assert 1 < one.in_flight.expected < two.in_flight.expected < two.speed.max_in_flight
    flood = forecast_of(*words, "serving.targets.requests_per_second=1000").forecasts["serve/general"]
    assert flood.serving.in_flight is None
    assert flood.as_dict()["serving"]["targets"]["requests_per_second"] == "missed"


def test_a_plan_says_that_further_fields_are_checked_elsewhere_where_trl_is_not_installed(forecast_of, monkeypatch):
    def told():
        plan = forecast_of("+recipe=dpo_qwen7b", "+method.extra.ld_alpha=0.5")
        return [text for text in plan.forecasts["train"].assumptions if "trl is not installed here" in text]

    assert told() == []
    monkeypatch.setattr(trl_fields, "fields", lambda config: None)
    assert len(told()) == 1
