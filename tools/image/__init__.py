"""Builds the images of our Dockerfile without Docker, as a proof that its steps work.

    python -m tools.image --target server --output server.tar --tag localhost/queuelet-server:dev

Contributors do not need this. It runs the steps of the Dockerfile in a folder instead of a container, and writes an OCI
archive. The base image is not downloaded: packages of this machine's Debian replace it. Steps use the machine's
network, package indexes and certificates, and none of them stays in the image. It needs Linux, root and apt-get.
"""
