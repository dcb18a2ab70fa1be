"""What the HTTP ports of server and operator share.

`connections.py` bounds connections, `guard.py` refuses the requests of web pages.
"""
