"""The stores. Each one implements `queuelet.core.storage`; the rules are in the core and not here.

`memory.py` keeps messages in a dictionary; `disk/` keeps them in a SQLite database that survives crashes. What durable
stores share is in `durable/`.
"""
