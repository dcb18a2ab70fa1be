"""Protobuf messages from and to values, for server, client and operator.

`values.py` has definitions and counts, `errors.py` the one table of errors and status codes, and `varint.py` the
integers of protobuf's own encoding.
"""
