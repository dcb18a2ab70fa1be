"""Keys and certificates of one control plane. They protect nothing, and are removed when it stops."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = dt.timedelta(days=365)
_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_ADDRESSES = ("127.0.0.1", "10.96.0.1")
"""Loopback, and the first address of the range of Services, which is the API server's."""


class Certificates:
    """A CA, the API server's certificate, and the key that signs ServiceAccount tokens, as PEM files."""

    def __init__(self, folder: Path) -> None:
        self.authority = folder / "authority.pem"
        self.authority_key = folder / "authority-key.pem"
        self.server = folder / "server.pem"
        self.server_key = folder / "server-key.pem"
        self.service_accounts = folder / "service-accounts.pem"
        self.service_accounts_key = folder / "service-accounts-key.pem"

    def write(self) -> None:
        """Create and write all of them."""
        authority, server, accounts = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        issuer = _name("queuelet-control-plane")
        self.authority.write_bytes(_pem(_certificate(issuer, issuer, authority, authority, _of_authority(authority))))
        self.server.write_bytes(_pem(_certificate(_name("kube-apiserver"), issuer, server, authority, _of_server())))
        self.service_accounts.write_bytes(
            accounts.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        for path, key in (
            (self.authority_key, authority),
            (self.server_key, server),
            (self.service_accounts_key, accounts),
        ):
            path.write_bytes(_key_pem(key))


_Extensions = tuple[tuple[x509.ExtensionType, bool], ...]
"""Extensions, and whether each is critical."""


def _of_authority(key: ec.EllipticCurvePrivateKey) -> _Extensions:
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (usage, True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    )


def _of_server() -> _Extensions:
    names = [x509.DNSName(name) for name in _NAMES]
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in _ADDRESSES]
    return (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([*names, *addresses]), False),
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extensions: _Extensions,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    # Valid since an hour ago, because the clock of a virtual machine may be set back.
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
