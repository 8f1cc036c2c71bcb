"""Nothing that was said and nothing that proves anybody is in a log or a trace."""

import secrets

from deploy.local.trace_viewer.store import Span
from tests.e2e.person import Person
from tests.e2e.system import PROVIDER_KEY, System
from tests.fakes.llm_provider import Answer, Fault, StreamError


def words(span: Span) -> str:
    """Returns everything a span says."""
    return " ".join([span.name, str(span.attributes), *(f"{event.name} {event.attributes}" for event in span.events)])


async def test_no_planted_secret_is_in_any_log_or_span(stack: System) -> None:
    plant = secrets.token_hex(8)
    prompt, answer, title = f"prompt-{plant}", f"answer-{plant}", f"title-{plant}"
    password, wrong = f"password-{plant}", f"wrong-{plant}"
    person = Person(stack.edge_url)
    person.password = password
    body = {"email": person.email, "password": password}
    person.take((await person.http.post("/auth/v1/signup", json=body)).json())
    planted = {prompt, answer, title, password, wrong, PROVIDER_KEY, "SECRET-WORDS", f"thought-{plant}"}
    planted |= {person.access_token, person.session["refresh_token"]}
    # What succeeds,
    stack.provider.script(Answer(text=f"It is {answer} indeed", reasoning=f"thought-{plant}"), match=prompt)
    stream = await person.say(f"Remember {prompt}")
    assert answer in stream.text
    await person.conversation(title=title)
    renewed = await person.http.post(
        "/auth/v1/token?grant_type=refresh_token", json={"refresh_token": person.session["refresh_token"]}
    )
    planted |= {renewed.json()["access_token"], renewed.json()["refresh_token"]}
    # what is refused,
    await person.http.post("/auth/v1/token?grant_type=password", json={**body, "password": wrong})
    await person.http.post("/auth/v1/signup", json=body)
    await person.http.post("/auth/v1/signup", json={"email": f"{password} is my address", "password": password})
    await person.http.post("/v1/chat", json={"message": "", prompt: prompt})
    await person.http.post("/v1/chat", content=f'{{"message": "{prompt}'.encode())
    await person.http.get(f"/v1/conversations?page_token={prompt}")
    await person.http.get("/v1/conversations", headers={"authorization": f"Bearer {person.access_token}x"})
    await person.http.get("/v1/conversations", headers={"x-request-id": f"{password} {prompt}"})
    # and what fails on the way.
    for fault in (Fault(status=401), Fault(status=400), Fault(status=500), StreamError(after=1)):
        stack.provider.script(fault, match=prompt, times=5)
        assert (await person.say(f"Once more {prompt}")).last.event == "error"
        stack.provider.reset()
    await person.close()
    last = secrets.token_hex(16)
    person = await Person.sign_up(stack.edge_url)
    await person.http.get("/v1/conversations", headers={"traceparent": f"00-{last}-{secrets.token_hex(8)}-01"})
    await person.close()
    # Exporters send in order: when this one is there, so are those before.
    await stack.spans.until(lambda: {"edge", "data"} <= {span.service for span in stack.spans.of_trace(last)})
    logs = {path.name: path.read_text(errors="replace") for path in stack.logs_dir.iterdir()}
    assert {"edge.log", "auth.log", "data.log", "chat.log", "gateway.log"} <= logs.keys()
    assert stream.response.headers["x-request-id"] in logs["edge.log"]
    found = {(name, secret[:12]) for name, log in logs.items() for secret in planted if secret in log}
    found |= {(span.name, secret[:12]) for span in stack.spans() for secret in planted if secret in words(span)}
    assert found == set()
