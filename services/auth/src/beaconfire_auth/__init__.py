"""Auth: signs users in, and answers which user has which role in a root.

* Accounts: `accounts` signs users up and in, with `email_addresses`, `people`, `hashing`, `attempts` and `successors`.
* Tokens: `keys` holds the signing keys, sealed by `seal`. `service_tokens` and `outside_users` are for other issuers.
* Members: `members` reads and changes them. Each change is an event.
* Rooms: `projection` learns from the stream which root a room belongs to.
* `http`, `operators` and `rpc` answer requests, from users, operators and other services.
* `app` builds all of it, on the tables of `store` and `migrations`.

A sign-in goes through `http`, `accounts`, `hashing` and `keys`. A gateway's question about a room goes through `rpc`,
`projection` and `members`. A change of members goes through `http`, `members` and the outbox, and reaches the gateways
as an event.
"""
