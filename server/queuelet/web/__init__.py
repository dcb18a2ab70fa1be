"""Parts that the HTTP ports of server and operator share.

`port.py` serves routes on a port. `connections.py` limits its connections, and `guard.py` refuses requests of foreign
web pages. `credential_metrics.py` has the metrics of their files with certificates and tokens.
"""
