"""Gateways of others, run beside Parley in the same rounds: LiteLLM's proxy and Portkey.

recipes.py      what is started, and how it is asked
peer.py         one of them: started, watched, given time to come to rest, started anew
ratios.py       their figures against Parley's
litellm.in      what to install; litellm.txt is its lock
portkey/        likewise for Node; loopback.cjs keeps it off the network
"""
