"""`make bench`: Parley measured against the bare provider, both in one run.

answers      what the benchmark's provider says, and how an answer proves that it arrived whole
wheel        sends the paced tokens of all streams from one timer
provider     the provider: an OpenAI-shaped server as fast as Python allows
floor        the least a gRPC server can do, so that gRPC's own price is known
wire         received bytes and their times to arrivals of text
http_client  an HTTP client that only keeps bytes and times
grpc_client  the same over gRPC
shared_client  the same over a shared connection
targets      how each of bare provider, gateway and edge is asked and read
turns        one job of the load generator: background streams, probes, bursts, stops
load         the load generator's process
profiled     a service under a sampling profiler
worker       the runner's end of a worker process
procfs       CPU and memory of process trees
system       Parley itself, with users and conversations
plan         what is measured, how often and for how long
measure      runs the plan and keeps what every round gave
figures      rounds to figures
report       figures to a table and to files
compare      two results side by side
machine      where and on what it ran
"""
