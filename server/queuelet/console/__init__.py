"""The pages that the server shows in a browser.

`board.py` packs the definitions and numbers of all queues, so that one encoding serves every browser. `feed.py` fills
the board from a watch stream while anyone looks, which `source.py` reads. `object_watch.py` follows the Queue objects
of a cluster at the same time: `kubernetes.py` reads them, and `queue_objects.py` has what is kept of them. `assets.py`
finds and sends the files of the pages, and `handlers.py` serves all of it over HTTP. `api_page.py` has the page of the
REST API. `sign_in.py` lets a browser sign in with a token, or with the key of `sign_in_key.py`, and `sessions.py` has
its sessions.

`package.json` names the packages of npm whose files the pages load. `make console-assets` copies them to `vendor/`.
"""
