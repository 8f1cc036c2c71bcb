"""What answers cost is told to whoever asked, and to operators; who may use how much is theirs to say, as is who answers."""

import asyncio
from typing import Any

import pytest

from tests.e2e.person import Person
from tests.e2e.refusals import refusal
from tests.e2e.system import System
from tests.fakes.llm_provider import Answer, UsageReport


async def test_what_an_answer_cost_is_told(stack: System, person: Person, operator: Person) -> None:
    stack.provider.script(Answer(usage=UsageReport(120, 30, cached_tokens=20)), match="How much?")
    await person.turn(await person.titled(), message="How much?")
    told = await person.usage(1)
    (row,) = told["rows"]
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"], row["calls"]) == (120, 30, 20, 1)
    assert (row["provider"], row["estimated_calls"]) == ("openai", 0)
    budgets = {state["scope"]: state for state in told["budgets"]}
    assert budgets["user"]["current"] == budgets["organization"]["current"] == 150
    user_id = (await person.http.get("/auth/v1/user")).json()["id"]
    page = (await operator.http.get("/v1/admin/usage", params={"by": ["user", "model"], "user_id": user_id})).json()
    assert [(one["user_id"], one["model"], one["calls"]) for one in page["rows"]] == [(user_id, row["model"], 1)]
    by_provider = {"by": "provider", "user_id": user_id}
    [one] = (await operator.http.get("/v1/admin/usage", params=by_provider)).json()["rows"]
    assert (one["provider"], one["provider_name"], one["calls"]) == ("openai", "openai", 1)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/admin/usage"),
        ("GET", "/v1/admin/budgets?scope=global"),
        ("PUT", "/v1/admin/budgets?scope=global"),
        ("GET", "/v1/admin/providers"),
        ("POST", "/v1/admin/providers/openai/test"),
        ("GET", "/v1/admin/aliases"),
        ("DELETE", "/v1/admin/aliases/fast"),
    ],
)
async def test_what_is_for_operators_is_for_nobody_else(person: Person, method: str, path: str) -> None:
    answer = await person.http.request(method, path, json={"limit": 1} if method == "PUT" else None)
    assert refusal(answer) == (403, "permission_denied", None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"limit": -1},
        {"limit": 1, "inherit": True},
        {"unlimited": False},
        {"limit": "x"},
        {"limit": 2**53},
        {"limit": False},
    ],
)
async def test_a_budget_that_makes_no_sense_is_refused(operator: Person, body: dict[str, Any]) -> None:
    answer = await operator.http.put("/v1/admin/budgets", params={"scope": "global"}, json=body)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("day", ["0", "1763683200", "2026-1-1", "yesterday", "2026-02-30"])
async def test_a_day_that_is_none_is_refused(operator: Person, day: str) -> None:
    answer = await operator.http.get("/v1/admin/usage", params={"to_day": day})
    assert refusal(answer) == (400, "invalid_argument", "to_day")


async def test_an_alias_takes_what_it_says_it_takes(operator: Person) -> None:
    body: dict[str, Any] = {"name": "lax", "targets": [{"model": "fast"}]}
    for wrong in ({"default": 0}, {"timeouts": {"gap_s": "1"}}, {"targets": [{"model": "fast", "weight": "2"}]}):
        answer = await operator.http.post("/v1/admin/aliases", json=body | wrong)
        assert refusal(answer)[:2] == (400, "invalid_argument")


async def test_a_provider_and_an_alias_are_added_tried_used_and_removed(
    stack: System, operator: Person, person: Person
) -> None:
    http = operator.http
    new = {
        "name": "mine",
        "type": "openai-compatible",
        "base_url": f"{stack.provider.base_url}/v1",
        "api_key": "sk-planted-provider-key-4f1d9c",
        "models": ["small"],
        "default_model": "small",
        "timeouts": {"first_token_s": 1.5},
    }
    added = await http.post("/v1/admin/providers", json=new)
    assert added.status_code == 201, added.text
    assert (added.json()["origin"], added.json()["timeouts"]["first_token_s"]) == ("stored", 1.5)
    assert "planted" not in added.text
    assert refusal(await http.post("/v1/admin/providers", json=new)) == (409, "provider_exists", None)
    assert "mine" in [one["name"] for one in (await http.get("/v1/admin/providers")).json()["providers"]]
    tried = await http.post("/v1/admin/providers/mine/test")
    assert tried.json()["ok"], tried.text
    alias = {"name": "swift", "targets": [{"model": "mine/small", "weight": 3}]}
    made = await http.post("/v1/admin/aliases", json=alias)
    assert made.status_code == 201, made.text
    assert refusal(await http.delete("/v1/admin/providers/mine")) == (409, "provider_in_use", None)
    async with asyncio.timeout(10):
        while (await person.http.get("/openai/v1/models/swift")).status_code != 200:  # noqa: ASYNC110 - it is told by no event
            await asyncio.sleep(0.05)
    stream = await person.say("Hi", model="swift")
    assert stream.last.event == "done"
    assert (await http.delete("/v1/admin/aliases/swift")).status_code == 204
    changed = await http.patch("/v1/admin/providers/mine", json={"enabled": False})
    assert not changed.json()["enabled"]
    assert (await http.delete("/v1/admin/providers/mine")).status_code == 204
    assert refusal(await http.get("/v1/admin/providers/mine")) == (404, "provider_not_found", None)
