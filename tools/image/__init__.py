"""Builds the images of our Dockerfile without Docker, as a proof that its steps work.

    python -m tools.image --target server --output server.tar --tag localhost/queuelet-server:dev

It does what the Dockerfile says, in a folder in the place of a container, and writes an OCI archive. The base image is
not fetched: packages of this machine's Debian stand in for it. The network, the package indexes and the certificates
are the machine's, and nothing of them stays in the image. It needs root, Linux, and apt-get.
"""
