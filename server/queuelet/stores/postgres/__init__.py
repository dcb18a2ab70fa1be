"""The PostgreSQL store: messages in a database that may be replicated, under one server that owns the queues.

Most of it is in `stores/durable`, whose docstring explains the group commit. Here each group is one call of a function
in the database (`schema.py`, `writing.py`), which begins with the fence: only the owner can write (`owner.py`). The
`PostgresBackend` (`backend.py`) connects, takes over, commits, and cleans up; `durability.py` refuses a database that
would lose commits, `migrations.py` creates the tables, and `loading.py` loads the state of the queues.

Nothing may block the event loop, so what a call reads must be in memory: the window, or what `reader.py` has read into
the `RowCache` (`cache.py`). Otherwise the call raises `NotLoaded`, and is repeated.

Several servers can share the tables, each of them some of the shards: `registry.py` says which servers there are and
who owns what, `members.py` decides which shards a server takes and gives up, and `numbers.py` gives each shard numbers
of its own.

`store.py` puts these together, and `stats.py` has its statistics. `check.py` looks for damage in all tables.
`driver.py` is the only module that knows asyncpg, and `primary.py` finds the primary among several hosts. `settings.py`
has the settings, and `address.py` the connection string, of which nothing secret is ever shown. This package imports
nothing here, because only `driver.py` needs the extra `postgres`.
"""
