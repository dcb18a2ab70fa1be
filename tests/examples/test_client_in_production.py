"""docs/client-in-production.md: its programs do what the page says."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme
import yaml

from queuelet.client import Client, Connection
from support.documents import ROOT, TOOLS, commands, free_ports
from support.patience import patient
from support.polling import until
from support.server_process import ServerProcess

PAGE = "docs/client-in-production.md"

PROGRAMS = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", (ROOT / PAGE).read_text(), re.DOTALL))
"""The page's programs, by name."""


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """A server without TLS."""
    with ServerProcess() as process:
        yield process


@contextmanager
def running(command: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a folder with the programs of the page. It never outlives the block."""
    for name, text in PROGRAMS.items():
        (folder / Path(name).name).write_text(text)
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
            process.terminate()
            process.wait(patient(60))
        finally:
            process.kill()


def ask(port: int) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/tea", timeout=patient(30)) as response:
        return bytes(response.read())


async def test_the_shop_puts_orders_under_gunicorn(server: ServerProcess, tmp_path: Path) -> None:
    (command,) = commands(PAGE)
    (port,) = free_ports(1)
    words = [str(TOOLS / "gunicorn"), *command.split()[1:], "--bind", f"127.0.0.1:{port}"]

    async def is_up() -> bool:
        try:
            return bool(ask(port))
        except OSError:
            return False

    async with Client(server.address) as client:
        await client.new_queue(name="orders")
        with running(words, tmp_path, QUEUELET_SERVER_ADDRESS=server.address):
            await until(is_up)
        assert (await client.pop("orders")).payload == b"/tea"


async def test_threads_share_a_producer(server: ServerProcess, tmp_path: Path) -> None:
    async with Client(server.address) as client:
        await client.new_queue(name="orders")
        with running([sys.executable, "threads.py", server.address], tmp_path) as process:
            out, _ = await asyncio.to_thread(process.communicate, timeout=patient(60))
        assert out == "100\n"
        assert (await client.get_queue("orders")).messages.ready == 100


async def test_a_notebook_awaits_at_the_top_level(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    text = PROGRAMS["notebook.py"].replace("localhost:10002", server.address)
    async with Client(server.address) as client:
        await client.new_queue(name="orders")
        code = compile(text, "notebook.py", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        await eval(code, {})  # noqa: S307  # the program is ours
    assert capsys.readouterr().out == "[b'from a notebook']\n"


async def test_a_worker_with_a_token_and_an_authority_ends_on_sigterm(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    files = {name: tmp_path / name for name in ("ca.crt", "tls.crt", "tls.key", "token")}
    authority.cert_pem.write_to_path(files["ca.crt"])
    issued.cert_chain_pems[0].write_to_path(files["tls.crt"])
    issued.private_key_pem.write_to_path(files["tls.key"])
    files["token"].write_text("a secret\n")
    flags = ("--tls-cert", files["tls.crt"], "--tls-key", files["tls.key"], "--token-file", files["token"])
    with ServerProcess(*map(str, flags)) as server:
        secured = Connection(server=server.address, tls_ca=files["ca.crt"], token_file=files["token"])
        async with Client(secured) as client:
            await client.new_queue(name="shop.orders")
            await client.add("shop.orders", b"tea")
            environment = {
                "QUEUELET_SERVER_ADDRESS": server.address,
                "QUEUELET_TLS_CA": str(files["ca.crt"]),
                "QUEUELET_TOKEN_FILE": str(files["token"]),
                "QUEUE": "shop.orders",
            }
            with running([sys.executable, "worker.py"], tmp_path, **environment) as process:
                assert process.stdout is not None
                assert await asyncio.to_thread(process.stdout.readline) == "done with tea\n"
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, patient(60)) == 0


def test_the_deployment_gives_the_worker_what_it_reads() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / PAGE).read_text(), re.DOTALL)
    deployment = yaml.safe_load(text)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {each["name"]: each["value"] for each in container["env"]}
    assert set(given) == set(re.findall(r'os\.environ\["(\w+)"\]', PROGRAMS["worker.py"]))
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert {each["name"] for each in pod["volumes"]} == mounts.keys()
    for variable in ("QUEUELET_TLS_CA", "QUEUELET_TOKEN_FILE"):
        assert str(Path(given[variable]).parent) in mounts.values()


def test_every_other_program_is_python() -> None:
    for name, text in PROGRAMS.items():
        compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
