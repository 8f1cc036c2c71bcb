"""Runs the chat service."""

from __future__ import annotations

from runtime import telemetry
from runtime.config import load
from runtime.server import serve
from services.chat.composition import assemble
from services.chat.config import ChatConfig


async def main() -> None:
    """Serves until a signal.

    Raises: ConfigError.
    """
    config = load(ChatConfig, "PARLEY_CHAT_")
    telemetry.configure(
        "chat", log_level=config.log_level, log_format=config.log_format, metrics_listen=config.metrics_listen
    )
    async with assemble(config) as chat:
        await serve(chat.server, config, prepare=chat.prepare, drain=chat.drain)
