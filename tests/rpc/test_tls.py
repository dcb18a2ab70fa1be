"""TLS, mutual TLS and the bearer token, with real certificates and files that change while the server runs."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection, RemoteDisconnected
from pathlib import Path
from typing import cast

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2

from queuelet.v1 import queue_pb2 as pb
from support.commands import Cli
from support.gateway_process import GatewayProcess
from support.pages import fetch, samples
from support.patience import patient
from support.rest import Rest
from support.rpc import Refused, Rpc, eventually
from support.server_process import ServerProcess

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class Secret:
    """A folder as Kubernetes mounts a Secret: links into a folder behind one link, which is switched atomically."""

    def __init__(self, folder: Path, **files: bytes) -> None:
        """Create it at a path with its first files."""
        folder.mkdir()
        self._folder = folder
        self._version = 0
        self.write(**files)
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")

    def __getitem__(self, name: str) -> str:
        """Return the path of a file."""
        return str(self._folder / name)

    def write(self, **files: bytes) -> None:
        """Replace all files at once."""
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content)
        new = self._folder / "..data_tmp"
        new.symlink_to(version.name)
        new.rename(self._folder / "..data")


def pair(authority: trustme.CA, *names: str) -> dict[str, bytes]:
    """Issue a certificate; return it and its key as the files of a Secret."""
    issued = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
    return {
        "cert": b"".join(blob.bytes() for blob in issued.cert_chain_pems),
        "key": issued.private_key_pem.bytes(),
    }


def trust(authority: trustme.CA, client: dict[str, bytes] | None = None) -> grpc.ChannelCredentials:
    """Return credentials of a client that trusts an authority, with a certificate of its own if it has one."""
    return grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(), client["key"] if client else None, client["cert"] if client else None
    )


def served_certificate(server: ServerProcess, port: int = 0) -> bytes:
    """Return the certificate that a new connection gets, in DER: to the gRPC port, or to another one."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1" if port else "h2"])
    with (
        socket.create_connection(("127.0.0.1", port or server.port), timeout=patient(30)) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return cast("bytes", secured.getpeercert(binary_form=True))


def der(pem: bytes) -> bytes:
    """Return the first certificate of a chain in DER."""
    return ssl.PEM_cert_to_DER_cert(
        pem.decode().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )


def assert_refused(rpc: Rpc, code: grpc.StatusCode) -> str:
    """Check that a call is refused; return the text."""
    with closing(rpc), pytest.raises(Refused) as caught:
        rpc.call("ListQueues", pb.ListQueuesRequest(), pb.ListQueuesResponse, timeout=10)
    assert caught.value.code is code
    return caught.value.text


def assert_served(rpc: Rpc) -> None:
    """Check that a message can be added and popped."""
    with closing(rpc):
        queue = rpc.new_queue().meta.id
        rpc.add(queue, b"by tls")
        assert rpc.pop(queue).payload == b"by tls"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The authority that signs servers and clients."""
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    """Another authority."""
    return trustme.CA()


@pytest.fixture
def secret(tmp_path: Path, authority: trustme.CA) -> Secret:
    """A certificate for the server, and its key."""
    return Secret(tmp_path / "tls", **pair(authority))


@pytest.fixture
def secured(secret: Secret) -> Iterator[ServerProcess]:
    """A server with TLS."""
    with ServerProcess("--tls-cert", secret["cert"], "--tls-key", secret["key"]) as server:
        yield server


# TLS


def test_tls_serves_only_clients_that_trust_its_authority(
    secured: ServerProcess, authority: trustme.CA, stranger: trustme.CA
) -> None:
    assert_served(Rpc(secured.address, credentials=trust(authority)))
    assert_refused(Rpc(secured.address), UNAVAILABLE)
    assert_refused(Rpc(secured.address, credentials=trust(stranger)), UNAVAILABLE)
    assert_served(Rpc(secured.address, credentials=trust(authority)))
    assert secured.log("serving")[0]["tls"] is True
    assert secured.stop() == 0


def test_a_certificate_of_another_name_is_refused_by_clients(tmp_path: Path, authority: trustme.CA) -> None:
    secret = Secret(tmp_path / "tls", **pair(authority, "elsewhere.example"))
    with ServerProcess("--tls-cert", secret["cert"], "--tls-key", secret["key"]) as server:
        assert_refused(Rpc(server.address, credentials=trust(authority)), UNAVAILABLE)


def test_a_renewed_certificate_is_served_to_the_next_connection(
    secured: ServerProcess, secret: Secret, authority: trustme.CA
) -> None:
    """As Kubernetes does it: all files switch at once. Open connections continue."""
    before = served_certificate(secured)
    with closing(Rpc(secured.address, credentials=trust(authority))) as open_connection:
        open_connection.new_queue("renewed")
        renewed = pair(authority)
        secret.write(**renewed)
        assert served_certificate(secured) == der(renewed["cert"]) != before
        assert_served(Rpc(secured.address, credentials=trust(authority)))
        open_connection.add("renewed", b"still here")
    again = pair(authority)
    secret.write(**again)
    assert served_certificate(secured) == der(again["cert"])


def test_certificate_and_key_may_be_renewed_one_after_the_other(
    secured: ServerProcess, secret: Secret, authority: trustme.CA
) -> None:
    """In between they do not match, and the old ones stay in use."""
    before = served_certificate(secured)
    renewed = pair(authority)
    Path(secret["cert"]).write_bytes(renewed["cert"])
    assert served_certificate(secured) == before
    assert_served(Rpc(secured.address, credentials=trust(authority)))
    Path(secret["key"]).write_bytes(renewed["key"])
    assert served_certificate(secured) == der(renewed["cert"])
    assert_served(Rpc(secured.address, credentials=trust(authority)))


BROKEN: dict[str, Callable[[trustme.CA], dict[str, bytes]]] = {
    "no certificate": lambda _: {"cert": b"not a certificate", "key": b"not a key"},
    "empty files": lambda _: {"cert": b"", "key": b""},
    "the key of another": lambda authority: {"cert": pair(authority)["cert"], "key": pair(authority)["key"]},
    "a cut certificate": lambda authority: {**(made := pair(authority)), "cert": made["cert"][:200]},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_renewal_that_cannot_be_used_keeps_the_old_and_warns(
    secured: ServerProcess, secret: Secret, authority: trustme.CA, broken: str
) -> None:
    before = served_certificate(secured)
    secret.write(**BROKEN[broken](authority))
    assert served_certificate(secured) == before
    assert_served(Rpc(secured.address, credentials=trust(authority)))
    renewed = pair(authority)
    warned = [line for line in secured.log() if line["level"] == "warning"]
    secret.write(**renewed)
    assert served_certificate(secured) == der(renewed["cert"]), "the next good one is taken"
    assert warned
    assert secret["cert"] in warned[0]["problem"]
    assert "stays in use" in warned[0]["problem"]


def test_a_renewal_that_is_gone_keeps_the_old_and_warns(
    secured: ServerProcess, secret: Secret, authority: trustme.CA
) -> None:
    before = served_certificate(secured)
    Path(secret["cert"]).unlink()
    assert served_certificate(secured) == before
    assert_served(Rpc(secured.address, credentials=trust(authority)))
    assert [line for line in secured.log() if line["level"] == "warning" and secret["cert"] in line["problem"]]


@pytest.mark.parametrize("missing", ["--tls-cert", "--tls-key", "--tls-client-ca"])
def test_files_that_do_not_make_a_whole_are_refused_at_the_start(secret: Secret, missing: str) -> None:
    given = {"--tls-cert": secret["cert"], "--tls-key": secret["key"], "--tls-client-ca": secret["cert"]}
    flags = [word for flag, path in given.items() if (flag == missing) for word in (flag, path)]
    with ServerProcess(*flags).launch() as server:
        assert server.wait() != 0
        assert "--tls-cert, --tls-key: give both or neither" in server.output()


def test_a_file_that_is_not_there_is_named_at_the_start(secret: Secret, tmp_path: Path) -> None:
    with ServerProcess("--tls-cert", str(tmp_path / "none.crt"), "--tls-key", secret["key"]).launch() as server:
        assert server.wait() != 0
        assert "none.crt" in server.output()


# Expiry


def dated(authority: trustme.CA, begins: timedelta, ends: timedelta) -> dict[str, bytes]:
    """Issue a certificate that is valid between two times, counted from now."""
    now = datetime.now(UTC)
    issued = authority.issue_cert("127.0.0.1", not_before=now + begins, not_after=now + ends)
    return {"cert": issued.cert_chain_pems[0].bytes(), "key": issued.private_key_pem.bytes()}


def expiry(server: ServerProcess, role: str = "certificate") -> float:
    """Return the expiry time of a certificate in the metrics."""
    metric = "queuelet_certificate_expiry_timestamp_seconds"
    found = samples(f"{server.metrics_url}/metrics", metric)
    return next(value for labels, value in found.items() if f'role="{role}"' in labels)


def stale(server: ServerProcess) -> dict[str, float]:
    """Return the roles of files, and whether the metrics show them as stale."""
    found = samples(f"{server.metrics_url}/metrics", "queuelet_credentials_stale")
    return {labels.partition('role="')[2].partition('"')[0]: value for labels, value in found.items()}


def problems(server: ServerProcess) -> list[str]:
    """Return the problems in the log's warnings, once there is one."""

    def warned() -> list[str]:
        return [line["problem"] for line in server.log() if line["level"] == "warning" and "problem" in line]

    eventually(lambda: bool(warned()), "a warning is logged")
    return warned()


DATES = {
    "expired": (timedelta(days=-9), timedelta(days=-2), "the certificate expired at"),
    "not valid yet": (timedelta(days=2), timedelta(days=90), "the certificate is not valid before"),
    "near its end": (timedelta(days=-9), timedelta(days=6), "the certificate expires at"),
}


@pytest.mark.parametrize("date", DATES)
def test_a_renewal_that_is_expired_or_soon_will_be_shows_in_log_metrics_and_health(
    secured: ServerProcess, secret: Secret, authority: trustme.CA, date: str
) -> None:
    begins, ends, says = DATES[date]
    assert fetch(f"{secured.metrics_url}/readyz").text == "ok\n"
    before = expiry(secured)
    assert before > time.time() + 31 * 86_400
    renewed = dated(authority, begins, ends)
    secret.write(**renewed)
    page = fetch(f"{secured.metrics_url}/readyz")
    assert page.status == 200, "clients that do not check go on"
    assert says in page.text
    assert secret["cert"] in page.text
    (problem,) = problems(secured)
    assert problem in page.text
    assert abs(expiry(secured) - time.time() - ends.total_seconds()) < 3600
    assert served_certificate(secured) == der(renewed["cert"])
    fetch(f"{secured.metrics_url}/readyz")
    assert len(problems(secured)) == 1, "it is logged once"
    secret.write(**pair(authority))
    assert fetch(f"{secured.metrics_url}/readyz").text == "ok\n"
    assert expiry(secured) == before


def test_a_server_that_starts_with_an_expired_certificate_warns_and_serves(
    tmp_path: Path, authority: trustme.CA
) -> None:
    secret = Secret(tmp_path / "tls", **dated(authority, timedelta(days=-9), timedelta(days=-2)))
    with ServerProcess("--tls-cert", secret["cert"], "--tls-key", secret["key"]) as server:
        assert served_certificate(server) == der(Path(secret["cert"]).read_bytes())
        (problem,) = problems(server)
        assert "the certificate expired at" in problem


@pytest.mark.parametrize("broken", [*BROKEN, "gone"])
def test_files_that_cannot_be_used_show_in_metrics_and_health_without_any_call(
    secured: ServerProcess, secret: Secret, authority: trustme.CA, broken: str
) -> None:
    before = served_certificate(secured)
    assert stale(secured) == {"certificate": 0, "key": 0}
    if broken == "gone":
        Path(secret["cert"]).unlink()
    else:
        secret.write(**BROKEN[broken](authority))
    page = fetch(f"{secured.metrics_url}/readyz")
    assert page.status == 200
    assert secret["cert"] in page.text
    assert "stays in use" in page.text
    assert stale(secured) == {"certificate": 1, "key": 1}
    assert problems(secured)
    assert served_certificate(secured) == before
    if broken != "gone":
        secret.write(**pair(authority))
        assert fetch(f"{secured.metrics_url}/readyz").text == "ok\n"
        assert stale(secured) == {"certificate": 0, "key": 0}
        secured.wait_for_log("credentials are usable again")


# Mutual TLS


@pytest.fixture
def mutual(secret: Secret, tmp_path: Path, authority: trustme.CA) -> Iterator[tuple[ServerProcess, Secret]]:
    """A server that requires client certificates, and the authority that signs them."""
    clients = Secret(tmp_path / "clients", ca=authority.cert_pem.bytes())
    flags = ("--tls-cert", secret["cert"], "--tls-key", secret["key"], "--tls-client-ca", clients["ca"])
    with ServerProcess(*flags) as server:
        yield server, clients


def test_mutual_tls_serves_only_clients_of_its_authority(
    mutual: tuple[ServerProcess, Secret], authority: trustme.CA, stranger: trustme.CA
) -> None:
    server, _ = mutual
    friend, other = pair(authority, "client@example.org"), pair(stranger, "client@example.org")
    assert_served(Rpc(server.address, credentials=trust(authority, friend)))
    assert_refused(Rpc(server.address, credentials=trust(authority)), UNAVAILABLE)
    assert_refused(Rpc(server.address, credentials=trust(authority, other)), UNAVAILABLE)
    assert_refused(Rpc(server.address), UNAVAILABLE)
    assert_served(Rpc(server.address, credentials=trust(authority, friend)))
    assert server.stop() == 0


def test_a_renewed_client_authority_holds_for_the_next_connection(
    mutual: tuple[ServerProcess, Secret], authority: trustme.CA, stranger: trustme.CA
) -> None:
    server, clients = mutual
    before, after = pair(authority, "client@example.org"), pair(stranger, "client@example.org")
    assert_served(Rpc(server.address, credentials=trust(authority, before)))
    clients.write(ca=stranger.cert_pem.bytes())
    assert_served(Rpc(server.address, credentials=trust(authority, after)))
    assert_refused(Rpc(server.address, credentials=trust(authority, before)), UNAVAILABLE)


def test_an_authority_of_clients_that_is_emptied_stays_in_use_and_shows(
    mutual: tuple[ServerProcess, Secret], authority: trustme.CA
) -> None:
    server, clients = mutual
    assert expiry(server, "client-ca") > time.time()
    clients.write(ca=b"")
    page = fetch(f"{server.metrics_url}/readyz")
    assert f"{clients['ca']}: no certificate of an authority in it" in page.text
    assert stale(server)["client-ca"] == 1
    assert_served(Rpc(server.address, credentials=trust(authority, pair(authority, "client@example.org"))))
    assert_refused(Rpc(server.address, credentials=trust(authority)), UNAVAILABLE)


# The token


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return metadata with a token."""
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Secret:
    """A file with a token and a newline, as editors write it."""
    return Secret(tmp_path_factory.mktemp("guarded") / "token", token=b"open sesame\n")


@pytest.fixture(scope="module")
def shared(token: Secret) -> Iterator[ServerProcess]:
    """A server that requires a token; a test that changes the token has to restore it."""
    with ServerProcess("--token-file", token["token"]) as server:
        yield server


@pytest.fixture
def guarded(shared: ServerProcess, token: Secret) -> Iterator[ServerProcess]:
    """The server; its first token is restored at the end."""
    yield shared
    token.write(token=b"open sesame\n")
    assert_served(Rpc(shared.address, metadata=bearer("open sesame")))  # so that the server reads it


def test_calls_with_the_token_are_served(guarded: ServerProcess) -> None:
    assert_served(Rpc(guarded.address, metadata=bearer("open sesame")))
    assert_served(Rpc(guarded.address, metadata=(("authorization", "bearer open sesame"),)))


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        bearer("wrong"),
        bearer(""),
        bearer("open sesame and more"),
        (("authorization", "open sesame"),),
        (("authorization", "Basic open sesame"),),
        (("authorization", "Bearer"),),
        (("x-token", "open sesame"),),
    ],
    ids=["none", "wrong", "empty", "longer", "no scheme", "another scheme", "scheme only", "another key"],
)
def test_other_calls_are_refused_with_what_to_send(
    guarded: ServerProcess, metadata: tuple[tuple[str, str], ...]
) -> None:
    text = assert_refused(Rpc(guarded.address, metadata=metadata), UNAUTHENTICATED)
    assert "authorization: Bearer <token>" in text
    assert "sesame" not in text
    with closing(Rpc(guarded.address, metadata=metadata)) as rpc:
        for path in ("proto.Q/ListQueues", "NewQueue"):
            with pytest.raises(Refused) as caught:
                rpc.raw(path, b"")
            assert caught.value.code is UNAUTHENTICATED
        with pytest.raises(Refused) as caught:
            rpc.watch().snapshot()
        assert caught.value.code is UNAUTHENTICATED
    assert "sesame" not in guarded.output()


def test_health_needs_no_token(guarded: ServerProcess) -> None:
    with closing(Rpc(guarded.address)) as rpc:
        response = health_pb2.HealthCheckResponse.FromString(rpc.raw("grpc.health.v1.Health/Check", b""))
        assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_a_renewed_token_holds_for_the_next_call(guarded: ServerProcess, token: Secret) -> None:
    assert_served(Rpc(guarded.address, metadata=bearer("open sesame")))
    token.write(token=b"new sesame")
    assert_served(Rpc(guarded.address, metadata=bearer("new sesame")))
    assert_refused(Rpc(guarded.address, metadata=bearer("open sesame")), UNAUTHENTICATED)


UNUSABLE_TOKENS = {
    "empty": b"",
    "blank": b" \n",
    "lines": b"a\nb",
    "binary": b"\xff\xfe\x00",
    "not ASCII": "öpen sesame".encode(),
}


@pytest.mark.parametrize("content", UNUSABLE_TOKENS.values(), ids=UNUSABLE_TOKENS)
def test_an_unusable_token_opens_nothing(guarded: ServerProcess, token: Secret, content: bytes) -> None:
    token.write(token=content)
    assert_refused(Rpc(guarded.address), UNAUTHENTICATED)
    assert_refused(Rpc(guarded.address, metadata=bearer("")), UNAUTHENTICATED)
    assert_served(Rpc(guarded.address, metadata=bearer("open sesame")))


@pytest.mark.parametrize("content", [*UNUSABLE_TOKENS.values(), None], ids=[*UNUSABLE_TOKENS, "gone"])
def test_a_token_file_that_cannot_be_used_shows_in_log_and_metrics(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"open sesame\n")
    with ServerProcess("--token-file", str(file)) as server:
        assert stale(server) == {"token": 0}
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        page = fetch(f"{server.metrics_url}/readyz")
        assert page.status == 200
        assert str(file) in page.text
        assert "sesame" not in page.text
        assert stale(server) == {"token": 1}
        (problem,) = problems(server)
        assert problem in page.text
        assert_served(Rpc(server.address, metadata=bearer("open sesame")))
        assert len(problems(server)) == 1, "further calls within the minute add no line"
        file.write_bytes(b"new sesame\n")
        assert fetch(f"{server.metrics_url}/readyz").text == "ok\n"
        assert_served(Rpc(server.address, metadata=bearer("new sesame")))


@pytest.mark.parametrize("content", UNUSABLE_TOKENS.values(), ids=UNUSABLE_TOKENS)
def test_a_server_does_not_start_with_an_unusable_token(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with ServerProcess("--token-file", str(file)).launch() as server:
        assert server.wait() != 0
        assert re.search(rf"{re.escape(str(file))}: [^;]+; write (only )?the token to it", server.output())


@pytest.mark.parametrize("content", UNUSABLE_TOKENS.values(), ids=UNUSABLE_TOKENS)
def test_a_gateway_does_not_start_with_an_unusable_token(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    ended = Cli()("rest", "--server", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--token-file", str(file))
    assert ended.code != 0
    assert re.search(rf"{re.escape(str(file))}: [^;]+; write (only )?the token to it", ended.err)
    assert "Traceback" not in ended.err


def test_token_and_tls_go_together(secret: Secret, token: Secret, authority: trustme.CA) -> None:
    flags = ("--tls-cert", secret["cert"], "--tls-key", secret["key"], "--token-file", token["token"])
    with ServerProcess(*flags) as server:
        assert_served(Rpc(server.address, credentials=trust(authority), metadata=bearer("open sesame")))
        assert_refused(Rpc(server.address, credentials=trust(authority)), UNAUTHENTICATED)


# Plain text

PLAIN = "serving plain text on more than loopback; use --tls-cert and --tls-key, or a trusted network"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", ":0"])
def test_plain_text_on_more_than_loopback_is_warned_of(listen: str) -> None:
    with ServerProcess("--listen", listen) as server:
        line = server.wait_for_log(PLAIN)
        assert line["level"] == "warning"
        assert "--tls-cert" in line["msg"]
        assert_served(Rpc(server.address))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_plain_text_on_loopback_is_not_warned_of(listen: str) -> None:
    if "::1" in listen and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    with ServerProcess("--listen", listen) as server:
        assert server.stop() == 0
        assert not [line for line in server.log() if line["level"] == "warning"]


def test_tls_on_more_than_loopback_is_not_warned_of(secret: Secret) -> None:
    flags = ("--listen", "0.0.0.0:0", "--tls-cert", secret["cert"], "--tls-key", secret["key"])
    with ServerProcess(*flags) as server:
        assert server.stop() == 0
        assert not [line for line in server.log() if line["level"] == "warning"]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_is_said_at_the_start() -> None:
    with ServerProcess() as first, ServerProcess("--listen", first.address).launch() as second:
        eventually(lambda: not second.is_running, "it gives up")
        assert second.wait() != 0
        assert f"cannot listen on {first.address}" in second.output()
        assert first.is_running


# The gateway


def list_over_https(port: int, authority: trustme.CA, client: dict[str, Path] | None = None) -> int:
    """List the queues over HTTPS; return the status."""
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    if client:
        context.load_cert_chain(client["cert"], client["key"])
    connection = HTTPSConnection("127.0.0.1", port, context=context, timeout=patient(60))
    with closing(connection):
        connection.request("GET", "/v1/queues")
        return connection.getresponse().status


def test_the_gateway_of_a_server_with_tls_serves_https(
    secured: ServerProcess, secret: Secret, authority: trustme.CA, stranger: trustme.CA
) -> None:
    assert list_over_https(secured.http_port, authority) == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        list_over_https(secured.http_port, stranger)
    before = served_certificate(secured, secured.http_port)
    renewed = pair(authority)
    secret.write(**renewed)
    assert served_certificate(secured, secured.http_port) == der(renewed["cert"]) != before
    secret.write(**BROKEN["no certificate"](authority))
    assert served_certificate(secured, secured.http_port) == der(renewed["cert"])
    assert list_over_https(secured.http_port, authority) == 200
    assert secured.stop() == 0


def files(folder: Path, name: str, pair_of: dict[str, bytes]) -> dict[str, Path]:
    """Write a certificate and its key to files."""
    paths = {key: folder / f"{name}.{key}" for key in pair_of}
    for key, content in pair_of.items():
        paths[key].write_bytes(content)
    return paths


def test_the_gateway_accepts_only_clients_of_an_authority_and_follows_when_that_changes(
    tmp_path: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    ours, theirs = files(tmp_path, "ours", pair(authority)), files(tmp_path, "theirs", pair(stranger))
    secret = Secret(tmp_path / "tls", **pair(authority), ca=authority.cert_pem.bytes())
    flags = ("--tls-cert", secret["cert"], "--tls-key", secret["key"], "--tls-client-ca", secret["ca"])
    with ServerProcess(*flags) as server:
        assert list_over_https(server.http_port, authority, ours) == 200
        for refused in (None, theirs):
            with pytest.raises((ssl.SSLError, ConnectionError, RemoteDisconnected)):
                list_over_https(server.http_port, authority, refused)
        secret.write(**pair(authority), ca=stranger.cert_pem.bytes())
        assert list_over_https(server.http_port, authority, theirs) == 200
        with pytest.raises((ssl.SSLError, ConnectionError, RemoteDisconnected)):
            list_over_https(server.http_port, authority, ours)
        assert server.stop() == 0


def test_a_gateway_alone_speaks_tls_to_its_server_and_to_its_clients(
    secured: ServerProcess, tmp_path: Path, authority: trustme.CA
) -> None:
    own = files(tmp_path, "gateway", pair(authority))
    ca = tmp_path / "ca"
    ca.write_bytes(authority.cert_pem.bytes())
    serve = ("--serve-tls-cert", str(own["cert"]), "--serve-tls-key", str(own["key"]))
    with GatewayProcess(secured.address, "--tls-ca", str(ca), *serve) as gateway:
        assert list_over_https(gateway.port, authority) == 200
        assert gateway.stop() == 0
    assert secured.stop() == 0


def test_a_gateway_passes_tokens_on_and_has_one_of_its_own(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    with ServerProcess("--token-file", str(token)) as server:
        with GatewayProcess(server.address) as gateway:
            assert Rest(gateway.url).ask("GET", "/v1/queues").status == 401
            assert Rest(gateway.url, {"Authorization": "Bearer wrong"}).ask("GET", "/v1/queues").status == 401
            assert Rest(gateway.url, {"Authorization": "Bearer secret"}).get("/v1/queues") == {}
        with GatewayProcess(server.address, "--token-file", str(token)) as gateway:
            assert Rest(gateway.url).get("/v1/queues") == {}
            assert Rest(gateway.url, {"Authorization": "Bearer wrong"}).ask("GET", "/v1/queues").status == 401
        with GatewayProcess(server.address, "--token-file", str(token), "--listen", ":0") as gateway:
            gateway.wait_for_log(
                "requests without a token are made with that of the gateway; let only trusted clients reach it"
            )
        assert server.stop() == 0
