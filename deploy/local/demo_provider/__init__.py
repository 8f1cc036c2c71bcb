"""The demo provider: answers where no provider key is at hand, in OpenAI's shapes, and says that it is a demo.

answers   what it says to a conversation; no I/O
wire      OpenAI's chat completions over HTTP, streamed and not
"""
