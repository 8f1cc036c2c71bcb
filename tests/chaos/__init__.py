"""Parley under faults: seeded people at work, something goes wrong, and what must hold is checked against all that was seen.

task        what a person asks for, and the one right answer
provider    the model provider, which knows the answers and notes each call
effects     a tool with an effect that nobody can take back
proxy       a link between two processes that can be parted and cut
system      two instances of each service, with a link between any two
client      a client of the edge that keeps to the book
traffic     what people do
faults      what goes wrong
skew        a wrong clock for one process
history     what happened, as it was seen
assembled   what a client has on its screen
invariants  what must hold
round       people, a fault, and the question whether everything held
report      the table
"""
