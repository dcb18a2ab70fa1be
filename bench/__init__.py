"""Benchmarks: the server and alternatives to it. Run `python -m bench`; bench/README.md has the details."""
