"""The pages that the server shows in a browser.

`package.json` names the packages of npm whose files the pages load. `make console-assets` copies them to `vendor/`.
"""
