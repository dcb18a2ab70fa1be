"""The pages that the server shows in a browser.

`api_page.py` has the page of the REST API, and `assets.py` serves files.

`package.json` names the packages of npm whose files the pages load. `make console-assets` copies them to `vendor/`.
"""
