"""Which providers there are and how they are asked.

provider     what is known of a provider
environment  finds providers in the environment
discovery    asks servers which models they have
registry     names to deployments
connections  the pool of connections, proxies
upstream     deployments whose wire we read ourselves
tail         deployments that litellm reads
bridge       the only module that imports litellm: requests, limits, prices, streams
faults       what went wrong at a provider, in our words
"""
