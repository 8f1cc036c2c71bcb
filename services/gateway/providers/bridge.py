"""The only module that imports litellm: it knows how each provider wants its requests, what its models take and what they cost.

`get_provider_chat_config` and what it returns are litellm's inner interface. The version is pinned, and
`tests/contract/gateway/test_litellm.py` fails when that interface changes.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from services.gateway.domain import ModelLimits
from services.gateway.providers import rates, redirects, spelling
from services.gateway.providers.frames import Frame, key_of
from services.gateway.providers.provider import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from services.gateway.domain import Call, Counts
    from services.gateway.providers.frames import Frames
    from services.gateway.providers.provider import Provider

# Read by litellm while it is imported: nothing is fetched from the network, no `.env` is loaded.
_SETTINGS = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_MODE": "PRODUCTION",
}
# What litellm calls the tool by which it has models answer in JSON that cannot be told to otherwise.
_JSON_TOOL = "json_tool_call"
# Models whose prices and spelling are remembered; a call may name any.
_MAX_RATES = 1000
# What litellm does with the messages of a request.
_MESSAGES = "_transform_messages"
# What shows whether texts are changed, put into another order, or put together.
_TEXTS = [
    {"role": role, "content": text}
    for role, text in (("user", "a"), ("system", "b"), ("user", "c"), ("user", " d "), ("assistant", "e"), ("user", ""))
]
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as a provider wants it: a POST of JSON.

    Attributes:
        text_tool: What the model passes to this tool is its answer; empty: there is no such tool.
    """

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    text_tool: str = ""


class Unspellable(Exception):
    """The call cannot be put into this provider's words; `cause` is a word for the log."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Bridge:
    """litellm, once it is loaded.

    Loading takes seconds of CPU, so it happens in a thread after the process has begun to listen. Until then no other method may be used.
    """

    def __init__(self) -> None:
        self._litellm: Any = None
        self._warm = False
        self._rates: dict[tuple[str, str], rates.Price] = {}
        self._configs: dict[tuple[str, str], Any] = {}
        self._openai: Any = None

    def load(self, *, streams: bool) -> None:
        """Imports litellm; blocks for seconds. What is done already is not done again.

        Args:
            streams: Warms up litellm's own streams too, which else cost the first caller half a second, and all others with it.
        """
        if self._litellm is None:
            self._import()
        if streams and not self._warm:
            self._warm_up()

    def _import(self) -> None:
        os.environ.update(_SETTINGS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import litellm
            from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
            from litellm.llms.openai.chat.gpt_transformation import OpenAIGPTConfig
            from litellm.llms.openai.common_utils import BaseOpenAILLM
        litellm.suppress_debug_info = True
        litellm.telemetry = False
        litellm.drop_params = True
        litellm.turn_off_message_logging = True
        for name in _LOGGERS:
            # Its own handlers would write every line a second time, past our format.
            logging.getLogger(name).handlers.clear()
        redirects.forbid(AsyncHTTPHandler, BaseOpenAILLM, litellm.module_level_aclient)
        self._openai = OpenAIGPTConfig
        self._litellm = litellm

    def _warm_up(self) -> None:
        prompt = [{"role": "user", "content": "-"}]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A mocked answer: nothing leaves the process.
            for _ in self._litellm.completion(
                model="bedrock/amazon.nova-lite-v1:0", messages=prompt, stream=True, mock_response="-"
            ):
                pass
        self._warm = True

    def request(
        self, provider: Provider, model: str, call: Call, *, max_output_tokens: int, frames: Frames | None = None
    ) -> HttpRequest:
        """Spells a streaming call for a provider whose wire we read ourselves.

        Args:
            provider: Whom to ask.
            model: Its name there.
            call: What is asked.
            max_output_tokens: Most that may be written.
            frames: Those of this provider and model, which are added to.

        Raises: Unspellable.
        """
        _check_images(provider, call)
        params = spelling.params(call, max_output_tokens)
        messages = spelling.messages(call)
        key = key_of(call, params) if frames is not None else None
        try:
            config = self._config(provider, model)
            frame = frames.get(key) if frames is not None and key is not None else None
            if frame is None:
                frame = self._frame(config, provider, model, params, messages)
                if frames is not None and key is not None and self._is_plain(config, provider):
                    as_said = self._leaves_texts(config, provider, model, frame)
                    frame = dataclasses.replace(frame, sent=_sent(provider, frame), as_said=as_said)
                    frames.keep(key, frame)
            if frame.as_said and spelling.is_plain(call):
                # Nearly all are; litellm looks at each message six times to find that out.
                return HttpRequest(frame.url, frame.sent or {}, {"model": model, "messages": messages, **frame.mapped})
            body = _body(config, provider, model, messages, frame)
            if provider.wire is Wire.ANTHROPIC and body.get("tools") and not call.tools:
                # Anthropic wants tools wherever some were called; litellm makes one up, which must not be called.
                body["tool_choice"] = {"type": "none"}
        except Exception as error:  # noqa: BLE001
            # Whatever litellm raises here is about this call's content, and its text may quote it.
            raise Unspellable(type(error).__name__) from None
        json_tool = provider.wire is Wire.ANTHROPIC and call.response_format is not None
        text_tool = _JSON_TOOL if json_tool and _offers(body, _JSON_TOOL) else ""
        return HttpRequest(frame.url, frame.sent or _sent(provider, frame), body, text_tool)

    def _frame(
        self, config: Any, provider: Provider, model: str, params: dict[str, Any], messages: list[dict[str, Any]]
    ) -> Frame:
        if provider.wire is Wire.OPENAI:
            params["stream_options"] = {"include_usage": True}
        options = dict(provider.options)
        if provider.dialect == "azure":
            mapped = config.map_openai_params(params, {}, model, True, api_version=options["api_version"])
            # litellm leaves Azure's address and key to OpenAI's SDK.
            headers = {"api-key": provider.api_key.reveal(), "content-type": "application/json"}
            url = _azure_url(provider, model)
        else:
            key = provider.api_key.reveal() or None
            mapped = config.map_openai_params(params, {}, model, True)
            base = f"{provider.base_url}/v1/messages" if provider.wire is Wire.ANTHROPIC else provider.base_url
            headers = config.validate_environment(
                {}, model, messages, dict(mapped), options, api_key=key, api_base=base
            )
            url = config.get_complete_url(base, key, model, dict(mapped), options, stream=True)
        # Meant for litellm's own reader.
        mapped.pop("json_mode", None)
        return Frame(url, headers, mapped)

    def _is_plain(self, config: Any, provider: Provider) -> bool:
        """Tells whether nothing but the messages of a body depends on the prompt: so it is where litellm spells as for OpenAI."""
        made = type(config)
        return provider.dialect != "azure" and all(
            getattr(made, name) is getattr(self._openai, name)
            for name in ("validate_environment", "get_complete_url", "transform_request")
        )

    def _leaves_texts(self, config: Any, provider: Provider, model: str, frame: Frame) -> bool:
        """Tells whether litellm leaves a prompt that is nothing but texts as it is: what it does with messages is what it does for OpenAI."""
        made, texts = type(config), [dict(text) for text in _TEXTS]
        if getattr(made, _MESSAGES, None) is not getattr(self._openai, _MESSAGES, self):
            return False
        return bool(
            _body(config, provider, model, texts, frame) == {"model": model, "messages": _TEXTS, **frame.mapped}
        )

    async def open(
        self,
        provider: Provider,
        model: str,
        call: Call,
        *,
        max_output_tokens: int,
        timeout_s: float,
        headers: Mapping[str, str],
    ) -> AsyncGenerator[Any, None]:
        """Opens a stream that litellm reads; cancelling the task that iterates it closes the connection.

        Yields: OpenAI-shaped chunks.
        Raises: Unspellable; litellm's exceptions, which `status_of` reads.
        """
        _check_images(provider, call)
        stream = await self._litellm.acompletion(
            model=f"{provider.dialect}/{model}",
            messages=spelling.messages(call),
            api_key=provider.api_key.reveal() or None,
            api_base=provider.base_url or None,
            stream_options={"include_usage": True},
            # Retries and deadlines are ours.
            max_retries=0,
            num_retries=0,
            timeout=timeout_s,
            extra_headers=dict(headers),
            **provider.options,
            **spelling.params(call, max_output_tokens),
        )
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await stream.aclose()

    async def embed(
        self, provider: Provider, model: str, texts: Sequence[str], dimensions: int, *, timeout_s: float
    ) -> dict[str, Any]:
        """Makes vectors by litellm.

        Returns: an answer in OpenAI's shape.
        Raises: litellm's exceptions; `status_of` reads them.
        """
        wanted = {"dimensions": dimensions} if dimensions else {}
        answer = await self._litellm.aembedding(
            model=f"{provider.dialect}/{model}",
            input=list(texts),
            api_key=provider.api_key.reveal() or None,
            api_base=provider.base_url or None,
            max_retries=0,
            timeout=timeout_s,
            **provider.options,
            **wanted,
        )
        return dict(answer.model_dump())

    def limits(self, provider: Provider, model: str) -> ModelLimits:
        """Returns what a model can take, as far as litellm knows."""
        if not provider.priced or provider.wire is Wire.OLLAMA:
            # For Ollama litellm would ask the server, and wait for it.
            return ModelLimits(tools=provider.tools)
        try:
            info = self._litellm.get_model_info(model, provider.dialect)
        except Exception:  # noqa: BLE001 - it raises a plain Exception for a model it does not know
            return ModelLimits(tools=provider.tools)
        tools = info.get("supports_function_calling")
        return ModelLimits(
            info.get("max_input_tokens") or 0,
            info.get("max_output_tokens") or 0,
            provider.tools if tools is None else tools,
        )

    def price(self, provider: Provider, model: str, counts: Counts) -> float | None:
        """Returns the price of a call in US dollars, or None where litellm does not know it."""
        if not provider.priced:
            return None
        if provider.wire is Wire.OLLAMA:
            return 0.0
        known = self._rates.get((provider.dialect, model))
        if known is None:
            if len(self._rates) >= _MAX_RATES:
                self._rates.clear()
            known = self._rates[provider.dialect, model] = rates.find(partial(self._ask_price, provider.dialect, model))
        return known(counts)

    def _ask_price(self, dialect: str, model: str, counts: Counts) -> float | None:
        try:
            sent, written = self._litellm.cost_per_token(
                model=model,
                custom_llm_provider=dialect,
                prompt_tokens=counts.input_tokens,
                completion_tokens=counts.output_tokens,
                cache_read_input_tokens=counts.cached_tokens,
                cache_creation_input_tokens=counts.cache_write_tokens,
            )
        except Exception:  # noqa: BLE001 - it raises a plain Exception for a model it does not know
            return None
        return float(sent + written)

    def knows(self, name: str) -> bool:
        """Tells whether litellm has a provider of this name."""
        from litellm.types.utils import LlmProviders

        return name in {provider.value for provider in LlmProviders}

    async def close(self) -> None:
        """Closes the connections of litellm's own streams."""
        if self._litellm is not None:
            await self._litellm.close_litellm_async_clients()

    def _config(self, provider: Provider, model: str) -> Any:
        known = self._configs.get((provider.dialect, model))
        if known is not None:
            return known
        from litellm.types.utils import LlmProviders
        from litellm.utils import ProviderConfigManager

        # Making one changes its class, which costs every look-up of an attribute that follows.
        config = ProviderConfigManager.get_provider_chat_config(model, LlmProviders(provider.dialect))
        if config is None:
            raise Unspellable("unknown_dialect")
        if len(self._configs) >= _MAX_RATES:
            self._configs.clear()
        self._configs[provider.dialect, model] = config
        return config


def status_of(error: Exception) -> tuple[int, str, Mapping[str, str]]:
    """Reads an exception of litellm: status (0 where it is none of litellm's), text for classification, headers of the answer."""
    status = getattr(error, "status_code", 0)
    headers = getattr(getattr(error, "response", None), "headers", None)
    return (status if isinstance(status, int) else 0), str(error), headers if headers is not None else {}


def _body(config: Any, provider: Provider, model: str, messages: list[dict[str, Any]], frame: Frame) -> dict[str, Any]:
    body: dict[str, Any] = config.transform_request(
        model, messages, dict(frame.mapped), dict(provider.options), frame.headers
    )
    return body


def _sent(provider: Provider, frame: Frame) -> Mapping[str, str]:
    return {"content-type": "application/json", **provider.headers, **frame.headers}


def _fetches(wire: Wire) -> bool:
    """Tells whether these take pictures by their address. For the others litellm would fetch them itself, from wherever a caller says."""
    return wire is Wire.OPENAI or wire is Wire.ANTHROPIC


def _check_images(provider: Provider, call: Call) -> None:
    if not _fetches(provider.wire):
        urls = [image.url for message in call.messages for image in message.images]
        if not all(url.startswith("data:") for url in urls):
            raise Unspellable("image_by_address")


def _offers(body: Mapping[str, Any], name: str) -> bool:
    return any(isinstance(tool, dict) and tool.get("name") == name for tool in body.get("tools") or ())


def _azure_url(provider: Provider, deployment: str) -> str:
    version = urlencode({"api-version": provider.options["api_version"]})
    return f"{provider.base_url}/openai/deployments/{quote(deployment, safe='')}/chat/completions?{version}"
