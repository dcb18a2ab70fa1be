"""Parts that the HTTP ports of server and operator share.

`connections.py` limits connections, and `guard.py` refuses requests of foreign web pages.
"""
