"""Who is calling, and what may they do.

domain        users, sessions and delegated tokens: types, rules, use cases
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
