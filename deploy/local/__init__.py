"""What `make run` starts: the whole of Parley on one machine, without Docker.

tether        runs a command that dies with its parent, as another identity where needed
process       one child process: its log, its end, its orderly stop
ports         free TCP ports on loopback
secret_files  secrets made once and kept in 0600 files
postgres      embedded Postgres with pgvector
redis         embedded Valkey, which speaks Redis
"""
