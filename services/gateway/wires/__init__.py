"""Parsers of the providers' streams: bytes in, deltas out, no I/O; they may be fed in any portions.

parser     what every parser does, and how it fails
lines      bytes to lines
sse        bytes to the data of server-sent events
openai     chat completions, as OpenAI, Azure, OpenRouter, vLLM and every compatible server send them
anthropic  messages
ollama     `/api/chat`, a JSON object a line
"""
