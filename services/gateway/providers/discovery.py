"""Asks servers which models they have and how much those can take."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import structlog

from services.gateway.domain import ModelLimits
from services.gateway.providers.connections import proxy_for
from services.gateway.providers.provider import Provider, Wire, makes_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

log = structlog.stdlib.get_logger()

_MAX_BYTES = 4 * 1024 * 1024
_MAX_MODELS = 200
_RETRY_S = 0.1
_PREFERRED = ("gpt-4o-mini",)


async def discover(
    session: aiohttp.ClientSession, providers: Sequence[Provider], *, timeout_s: float
) -> tuple[list[Provider], dict[tuple[str, str], ModelLimits]]:
    """Fills in the models of servers that list them.

    An Ollama that does not answer, or has no model, is left out: it may only be a guess. Any other server that does not answer keeps
    what is known of it; it may merely be slow to start.

    Returns: the providers, and limits by provider and model where a server tells them.
    """
    results = await asyncio.gather(*(_discover_one(session, provider, timeout_s) for provider in providers))
    kept = [provider for provider, _ in results if provider is not None]
    limits = {
        (provider.name, model): limit for provider, known in results if provider for model, limit in known.items()
    }
    return kept, limits


async def _discover_one(
    session: aiohttp.ClientSession, provider: Provider, timeout_s: float
) -> tuple[Provider | None, dict[str, ModelLimits]]:
    if not provider.discovers:
        return provider, {}
    try:
        async with asyncio.timeout(timeout_s):
            if provider.wire is Wire.OLLAMA:
                return await _ollama(session, provider)
            return await _when_up(session, provider)
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, ValueError) as error:
        log.info("models_not_listed", provider=provider.name, cause=type(error).__name__)
        return (None if provider.wire is Wire.OLLAMA else provider), {}


async def _when_up(session: aiohttp.ClientSession, provider: Provider) -> tuple[Provider, dict[str, ModelLimits]]:
    """Waits for a server that is started beside the gateway; loading litellm takes longer anyway."""
    waiting = False
    while True:
        try:
            return await _compatible(session, provider)
        except aiohttp.ClientConnectorError:
            if not waiting:
                waiting = True
                log.info("waiting_for_provider", provider=provider.name)
            await asyncio.sleep(_RETRY_S)


async def _compatible(session: aiohttp.ClientSession, provider: Provider) -> tuple[Provider, dict[str, ModelLimits]]:
    listing = await _ask(session, provider, "GET", f"{provider.base_url}/models")
    entries = [e for e in listing.get("data") or () if isinstance(e, dict) and isinstance(e.get("id"), str)][
        :_MAX_MODELS
    ]
    names = tuple(entry["id"] for entry in entries)
    # vLLM tells the window it was started with.
    limits = {
        e["id"]: ModelLimits(e["max_model_len"], tools=provider.tools)
        for e in entries
        if isinstance(e.get("max_model_len"), int)
    }
    return (_with_models(provider, names) if names else provider), limits


async def _ollama(session: aiohttp.ClientSession, provider: Provider) -> tuple[Provider | None, dict[str, ModelLimits]]:
    listing = await _ask(session, provider, "GET", f"{provider.base_url}/api/tags")
    entries = [e for e in listing.get("models") or () if isinstance(e, dict) and isinstance(e.get("name"), str)]
    names = tuple(entry["name"] for entry in entries[:_MAX_MODELS])
    if not names:
        return None, {}
    shown = await asyncio.gather(
        *(_ask(session, provider, "POST", f"{provider.base_url}/api/show", {"model": name}) for name in names),
        return_exceptions=True,
    )
    limits = {}
    for name, details in zip(names, shown, strict=True):
        if not isinstance(details, dict):
            continue
        info, abilities = details.get("model_info"), details.get("capabilities")
        windows = [v for k, v in (info or {}).items() if k.endswith(".context_length") and isinstance(v, int)]
        limits[name] = ModelLimits(windows[0] if windows else 0, tools="tools" in (abilities or ()))
    return _with_models(provider, names), limits


def _with_models(provider: Provider, names: tuple[str, ...]) -> Provider:
    chatting = [name for name in names if not makes_vectors(name)]
    fast = next((name for name in (provider.default_model, provider.fast, *_PREFERRED) if name in chatting), "")
    fast = fast or (chatting[0] if chatting else "")
    power = provider.power if provider.power in chatting else fast
    vectors = provider.embedding_model or next((name for name in names if makes_vectors(name)), "")
    return dataclasses.replace(provider, models=names, fast=fast, power=power, embedding_model=vectors)


async def _ask(
    session: aiohttp.ClientSession, provider: Provider, method: str, url: str, body: object = None
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {provider.api_key.reveal()}"} if provider.api_key else {}
    proxy = proxy_for(provider.base_url)
    async with session.request(method, url, json=body, headers=headers, proxy=proxy, allow_redirects=False) as response:
        response.raise_for_status()
        raw = await response.content.read(_MAX_BYTES)
        while len(raw) < _MAX_BYTES and (more := await response.content.read(_MAX_BYTES - len(raw))):
            raw += more
    return msgspec.json.decode(raw, type=dict[str, Any])
