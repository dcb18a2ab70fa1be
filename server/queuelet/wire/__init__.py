"""Conversion between protobuf messages and values, for server, client and operator.

`values.py` converts queues, declarations, results and statistics, `errors.py` has the table of errors and status codes,
and `varint.py` encodes protobuf's variable-length integers. `queue_field.py` finds the queue in an encoded request, and
`forwarding.py` has the metadata of calls that one server passes on to another.
"""
