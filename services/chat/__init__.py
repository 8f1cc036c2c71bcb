"""One turn: a user's message and what answers it, as a log of events that any number of clients watch.

domain        what a run is made of and how it can fail
ports         what the service needs of others, and asking: what it needs of models
runs          use cases: start, submit, watch, cancel, get, drain; asks, caller and rules say for what, for whom and how much
conversations all runs of a conversation as one stream
dead_letters  background runs that were given up
follow        a run as its watchers see it, wherever it lives

host          the runs this instance owns
claims        runs that nobody owns are taken here; taking: what there is of their logs
turn          the life of one run on the instance that owns it
beginning     what an owner makes of a run before it asks a model
steps         the model is asked, its tools are called, and it is asked again
tools         what a model may call
keeping       what is visible is stored, the lease renewed and doubted
prompt        what a model is sent, and how much history fits
titles        titles of new conversations, beside the answers
failures      how a failed answer is told

log           the events of one run in memory, made of stretches of deltas
answer        what of the events counts: parts, steps, resets
snapshot      the events of a run from what is stored of it
tail          the log in Redis: one writer and one reader a process; entries: how it is written there
signals       words between instances
wire          events and runs, as the contract spells them

models        the gateway's models, remembered
delegation    the credential a run works with
data_client, gateway_client, auth_client, conversions
              the other services, as the domain sees them
servicer      `parley.chat.v1.ChatService`
metrics       what Prometheus is told
background    work that ends with the service
config        what the service is told
composition   puts the parts together
main          composition root
"""
