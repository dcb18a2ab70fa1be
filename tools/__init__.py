"""Tools for building and testing Queuelet. Users do not need them."""
