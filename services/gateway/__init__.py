"""The gateway: language models of many providers behind one door.

main        runs the service
composition puts its parts together
config      its settings
servicer    protobuf to domain and back
domain      calls, deltas, deployments, failures
rules       what a call must look like
chat        one call: deadlines, retries, usage
tool_calls  what callers are promised of tool calls
timeouts    deadlines of single providers and aliases
observation spans and metrics of provider calls
providers   which providers there are, and how they are asked
wires       parsers of their streams
"""
