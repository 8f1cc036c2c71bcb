"""The edge: HTTP for browsers and SDKs, translated to gRPC; it owns nothing.

config         what the environment says
main           the composition root
app            puts the nouns together into one ASGI application
asgi           what happens around every request: request id, span, log line, metrics, body limit, CORS, security headers
server         serves, and drains on SIGTERM
connection     bounds of one connection: how many, how long a head, how long it may take
wire           what an answer may ask of its connection past ASGI
streams        what every answer that is pushed has in common
calls          a route whose caller is known and whose body is strict JSON
problems       errors as RFC 9457 problem documents: the one table to HTTP
description    the API's OpenAPI document
clients        channels to the services behind
client_address who asks, seen through trusted proxies
cors           which pages of other origins may call
identity       sign-up, sessions, keys
conversations  conversations and their messages
runs           runs and their events over SSE
operation      health, readiness, documentation, the web page
"""
