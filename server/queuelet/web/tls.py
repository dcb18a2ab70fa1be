"""TLS of a port, with files that may change while the process runs."""

from __future__ import annotations

import ssl
from contextlib import suppress

from queuelet.tls_files import TlsFiles


class ServingTls:
    """The TLS configuration of a port. Each handshake uses the newest usable files."""

    def __init__(self, files: TlsFiles, protocol: str = "http/1.1") -> None:
        """Make it from valid files, for a protocol as ALPN names it."""
        self._files = files
        self._protocol = protocol
        self._version = files.version
        self._newest = self.context = self._load()
        """The context for the port; it passes each handshake on to the newest one."""
        self.context.sni_callback = self._renew

    def _load(self) -> ssl.SSLContext:
        certificate, key, *_ = self._files.files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.path, key.path)
        context.set_alpn_protocols([self._protocol])
        if self._files.client_authority:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self._files.client_authority.decode())
        return context

    def current(self) -> ssl.SSLContext:
        """Return the context for a handshake that begins now."""
        self._files.reload()
        if self._files.version != self._version:
            version = self._files.version
            # The files may have changed once more, to ones that cannot be used: the next handshake tries again.
            with suppress(OSError):
                self._newest = self._load()
                self._version = version
        return self._newest

    def _renew(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        """Use the newest context for a connection. OpenSSL calls this at each handshake."""
        connection.context = self.current()
