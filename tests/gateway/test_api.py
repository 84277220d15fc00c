"""The pages beside the completions: metrics, the API document, Swagger UI."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from largeforge.gateway import openapi

jsonschema = pytest.importorskip("jsonschema")


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in references(item)]
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    return []


def look_up(document: dict[str, Any], reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


async def test_metrics_count_what_happened(world):
    await world.chat("order")
    await world.chat(model="nobody")
    await world.client.post("/v1/chat/completions", content=b"{")
    answer = await world.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    of_support = (("expert", "support"), ("model", "registry:support/1"))
    of_general = (("expert", "general"), ("model", "registry:general/1"))
    prefix = "largeforge_gateway_"
    assert samples[f"{prefix}requests_total", *of_support, ("status", "200")] == 1
    assert samples[f"{prefix}requests_total", *of_general, ("status", "200")] == 1
    assert samples[f"{prefix}requests_total", ("expert", "none"), ("model", ""), ("status", "400")] == 1
    assert samples[f"{prefix}fallbacks_total", ("reason", "unknown-model")] == 1
    assert samples[f"{prefix}fallbacks_total", ("reason", "expert-down")] == 0
    assert samples[f"{prefix}upstream_up", ("expert", "mapper")] == 1
    assert samples[f"{prefix}request_duration_seconds_count", *of_support] == 1
    assert samples[f"{prefix}time_to_first_byte_seconds_count", *of_support] == 1
    assert samples[(f"{prefix}requests_in_flight",)] == 0
    assert not any(name.startswith(("python_", "process_")) for name in families)


async def test_openapi_document_is_valid_and_complete(world):
    document = (await world.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1.")
    assert all(look_up(document, reference) for reference in references(document))
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    operations = [item for path in document["paths"].values() for item in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(response["description"] for item in operations for response in item["responses"].values())
    for path in ("/v1/chat/completions", "/v1/completions"):
        assert set(document["paths"][path]["post"]["responses"]) >= {"200", "400", "413", "502", "503", "504"}
    for path, item in document["paths"].items():
        assert (await world.client.request("OPTIONS", path)).headers["allow"].find(next(iter(item)).upper()) >= 0


async def test_answers_are_as_the_document_says(world):
    document = openapi.document()

    def check(content: Any, name: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(content, schema, jsonschema.Draft202012Validator)

    check((await world.chat()).json(), "ChatCompletion")
    check((await world.client.post("/v1/completions", json={"prompt": "x"})).json(), "Completion")
    check((await world.client.post("/v1/completions", json={})).json(), "Error")
    check((await world.client.get("/v1/models")).json(), "ModelList")
    check((await world.client.get("/ready")).json(), "Readiness")
    check((await world.client.get("/health")).json(), "Alive")
    check({"model": "auto", "messages": [{"role": "user", "content": "hi"}]}, "ChatRequest")
    with pytest.raises(jsonschema.ValidationError):
        check({"model": "auto"}, "ChatRequest")


async def test_docs_load_nothing_from_elsewhere(world):
    page = await world.client.get("/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    start = await world.client.get("/docs/start.js")
    assert "://" not in page.text + start.text
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text) + re.findall(r'url: "([^"]+)"', start.text)
    assert len(linked) == 5
    for link in linked:
        assert (await world.client.get(f"/{link}")).status_code == 200
    bundle = await world.client.get("/docs/swagger-ui-bundle.js")
    assert "SwaggerUIBundle" in bundle.text


async def test_swagger_ui_gets_a_document_in_its_own_version(world):
    document = (await world.client.get("/docs/openapi-3.0.json")).json()
    assert document["openapi"] == "3.0.3"
    assert all(look_up(document, reference) for reference in references(document))
    assert not re.search(r'"const"|"examples"|"type": ?"null"', str(document).replace("'", '"'))
    message = document["components"]["schemas"]["Message"]["properties"]["content"]
    assert message["nullable"] is True
    top_p = document["components"]["schemas"]["ChatRequest"]["properties"]["top_p"]
    assert top_p["anyOf"][0] == {"type": "number", "minimum": 0.0, "exclusiveMinimum": True, "maximum": 1.0}
