"""Conversion between protobuf messages and values, for server, client and operator.

`values.py` converts definitions and counts, `errors.py` has the table of errors and status codes, and `varint.py`
encodes protobuf's variable-length integers.
"""
