"""Who is calling, and what may they do.

domain        users and sessions: types, rules, use cases
api_keys      credentials of programs: made, exchanged for tokens, revoked
delegation    tokens with which services act for users, or speak for themselves
throttle      how many attempts are allowed, and for whom they count
servicer      proto to domain and back
store         the domain's stores on Postgres
passwords     argon2id on a bounded pool of threads
signing       signing keys: kept encrypted, rotated with overlap, published, used
upkeep        the periodic job: rotates keys that are due, removes what has expired
config        what the service is told
composition   builds the parts from config and database
main          runs the service
"""
