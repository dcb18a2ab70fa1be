"""Where messages are stored. A store implements `queuelet.core.storage`, and decides nothing.

`memory.py` is a dictionary; `disk/` is a SQLite database that survives crashes.
"""
