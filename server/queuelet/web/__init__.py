"""Parts that the HTTP ports of server and operator share.

`port.py` serves routes on a port. `connections.py` limits its connections, `guard.py` refuses requests of foreign web
pages, and `tls.py` has the port's TLS. `credential_metrics.py` has the metrics of files with certificates and tokens.
"""
