"""The API's description tells of the dialect."""

import httpx


async def test_the_dialect_is_described(edge: str) -> None:
    async with httpx.AsyncClient() as http:
        document = (await http.get(edge.removesuffix("/openai/v1") + "/openapi.json")).json()
    told = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/openai/v1/")
    }
    assert told.keys() == {
        ("POST", "/openai/v1/chat/completions"),
        ("POST", "/openai/v1/embeddings"),
        ("GET", "/openai/v1/models"),
        ("GET", "/openai/v1/models/{model}"),
        ("POST", "/openai/v1/responses"),
        ("GET", "/openai/v1/responses/{response_id}"),
        ("DELETE", "/openai/v1/responses/{response_id}"),
        ("POST", "/openai/v1/responses/{response_id}/cancel"),
        ("GET", "/openai/v1/responses/{response_id}/input_items"),
        ("DELETE", "/openai/v1/conversations/{conversation_id}"),
    }
    streamed = {path for (_, path), one in told.items() if "text/event-stream" in one["responses"]["200"]["content"]}
    assert streamed == {
        "/openai/v1/chat/completions",
        "/openai/v1/responses",
        "/openai/v1/responses/{response_id}",
    }
    assert all(operation["security"] == [{"bearer": []}] for operation in told.values())
