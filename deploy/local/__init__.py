"""What `make run` starts: the whole of Parley on one machine, without Docker.

run            `make run`: up, the one URL, down on a signal
trace          `make trace`: the last turn's waterfall
settings       what the environment tells the launcher
stack          all parts under one supervisor: start by health, stop in order
addresses      who listens where, with one instance of each service or several
topology       the table of processes: command, environment, who waits for whom
unit           kinds of parts: service, store, migration
member         keeps one part alive, with a growing pause
health         waits until a process is ready
progress       what the person at the terminal sees
home           PARLEY_HOME: lock, logs, run.json
postgres       embedded Postgres with pgvector
redis          embedded Valkey, which speaks Redis
process        one child process: its log, its end, its orderly stop
tether         runs a command that dies with its parent, as another identity where needed
ports          free TCP ports on loopback
secret_files   secrets made once and kept in 0600 files
http_server    a small HTTP server for the helpers
demo_provider  a model provider for those who have no key
trace_viewer   receives spans, shows waterfalls
"""
