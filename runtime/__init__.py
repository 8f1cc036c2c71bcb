"""The one shared library; it knows no service.

config        environment to a frozen dataclass, every fault reported at once
errors        the error vocabulary; imports no grpc
status        the error table: vocabulary to gRPC status and back
context       who is calling: request id, identity and credential of the work at hand
identity      verifies access tokens against cached keys
interceptors  the server's chain of links, in a tested order, and the client's interceptor
server        builds a gRPC server, serves until a signal, drains
channel       client channels: deadline, keepalive, retry policy
telemetry     set-up of logs, traces and metrics, and the spans everybody opens
logs          lines with service, request and trace
spans         spans that cost little until they are exported
postgres      pool, transactions with claims, driver errors to vocabulary
queries       loader of named SQL statements
migrate       applies plain SQL files in order, with a ledger and a lock
redis         client whose waits are bounded
resp          a connection to Redis for what many ask of it at once
validation    rules of single fields, each error naming its field
wellknown     protobuf's Timestamp and Duration to and from Python, safely for what a caller can send
ids           identifiers that sort by time
stopping      ends a task for sure
testing       loopback server, tokens and clocks for tests
"""
