"""How OpenAI and Ollama spell vectors."""

from __future__ import annotations

from typing import Any


def answer(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Returns vectors that tell the texts' lengths: as many numbers as `dimensions` says, or four."""
    size = body.get("dimensions", 4)
    vectors = [[float(len(text)), *[0.5] * (size - 1)] for text in body["input"]]
    if not path.endswith("/embeddings"):
        return {"embeddings": vectors, "prompt_eval_count": len(vectors)}
    entries = [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(vectors)]
    usage = {"prompt_tokens": len(vectors), "total_tokens": len(vectors)}
    # The order is the provider's.
    return {"object": "list", "data": entries[::-1], "model": body["model"], "usage": usage}
