"""Benchmarks: the server beside other ways to do the same. Run `python -m bench`; bench/README.md tells the rest."""
