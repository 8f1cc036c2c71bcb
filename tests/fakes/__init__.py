"""Small real servers that stand in for what Parley talks to and does not own.

llm_provider  model providers over HTTP, with scripted behaviour
script        what the provider can be told to do
llm_wires     how each provider spells an answer
http_server   the HTTP server below it
"""
