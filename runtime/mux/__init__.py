"""Calls of any method over one long-lived stream for each pair of processes.

wire        frames, and the limits both sides keep to
outbox      what is to be written: at once, or as one batch of many frames
channel     the caller's channel, which generated stubs take like any other
spread      the caller's connections, one for each instance
link        one of them
pipe        the plain TCP connection on which its frames travel where that can be had
exchange    one call on it
calls       what a stub's method gives: awaitable or iterable, tried again where that is safe; a tap takes what need not be waited for
addresses   an address to its instances
dispatcher  the service's side: connections, and the methods they reach
served      one call there, with the context a servicer expects
"""
