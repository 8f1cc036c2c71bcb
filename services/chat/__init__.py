"""One turn: a user's message and what answers it, as a log of events that any number of clients watch.

domain      what a run is made of and how it can fail
ports       what the service needs of others
runs        use cases: start, watch, cancel, get, drain
turn        the life of one run, from the stored question to the stored answer
log         the events of one run in memory
follow      a run that is not live here: its tail, what is stored of it, and its end when its owner is gone
failures    how a failed answer is told
snapshot    the events of a run from what is stored of it
prompt      what a model is sent, and how much history fits
models      the gateway's models, remembered
delegation  the credential a run works with
tail        the log in Redis: one writer and one reader a process
signals     a word to the instance that owns a run
clients     the other services, as the domain sees them
wire        events and runs, as the contract spells them
servicer    `parley.chat.v1.ChatService`
metrics     what Prometheus is told
background  work that ends with the service
config      what the service is told
composition puts the parts together
main        composition root
"""
