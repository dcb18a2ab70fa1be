"""Options that commands share, the global options, and the environment variables of flags."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from queuelet.cli.failures import refused
from queuelet.limits import MAX_LEASE_SECONDS, MAX_TIME_SECONDS
from queuelet.tags import Tag

SETTINGS: dict[str, Any] = {"show_default": True, "max_content_width": 120, "help_option_names": ["-h", "--help"]}
"""click's settings for all commands."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""An option that names a file to read."""


_Function = TypeVar("_Function", bound=Callable[..., Any])


MAX_TOKEN = 2**64 - 1

MAX_SIZE_BYTES = 2**31 - 1
"""The largest number of bytes that a request can ask for."""

YEAR = 365 * 86_400
"""A year in seconds, the longest wait."""


class Seconds(click.FloatRange):
    """A duration in seconds: a plain number, or numbers with units, such as 250ms, 5m or 1h30m."""

    name = "duration"

    def __init__(self, least: float = 0, most: float = MAX_TIME_SECONDS, *, above: bool = False) -> None:
        """Make a type with bounds in seconds; `above` excludes the lower one."""
        super().__init__(min=least, max=most, min_open=above)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the duration in seconds."""
        seconds = duration(str(value))
        if seconds is None:
            self.fail(
                f"{value!r} is not a duration; write seconds, or numbers with units, such as {_EXAMPLES}.", param, ctx
            )
        return float(super().convert(seconds, param, ctx))


class WholeSeconds(click.ParamType[int]):
    """A duration of whole seconds. The server checks its range."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the duration in seconds."""
        seconds = duration(str(value))
        if seconds is None or not seconds.is_integer():
            self.fail(f"{value!r} is not a duration of whole seconds; write it like 90, 5m or 1h30m.", param, ctx)
        return int(seconds)


_EXAMPLES = "250ms, 5m or 1h30m"

_UNIT_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

_PART = r"(\d+(?:\.\d+)?)(ms|[dhms])"


def duration(text: str) -> float | None:
    """Parse a duration and return it in seconds; None if it is malformed or `nan`, which would pass any range check."""
    if re.fullmatch(f"(?:{_PART})+", text, re.ASCII):
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in re.findall(_PART, text))
    try:
        seconds = float(text)
    except ValueError:
        return None
    return None if isnan(seconds) else seconds


class WholeNumber(click.IntRange):
    """An integer within bounds, with a plainer name in error messages than click's `integer range`."""

    name = "whole number"


class Token(click.ParamType[int]):
    """The token of a lease."""

    name = "token"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the token."""
        text = str(value)
        # The length is checked first, because Python refuses to convert thousands of digits.
        is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_TOKEN))
        if not is_number or int(text) > MAX_TOKEN:
            self.fail(f"{value!r} is not a token; give the number that `queuelet receive` prints", param, ctx)
        return int(text)


@dataclass(kw_only=True, slots=True)
class Options:
    """The values of the global options."""

    server: str = ""
    output: str | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None
    insecure: bool = False
    timeout: float = 0

    @property
    def json(self) -> bool:
        """Whether to print JSON: if requested, or by default if standard output is not a terminal."""
        if self.output:
            return self.output == "json"
        return not sys.stdout.isatty()


def _store(context: click.Context, option: click.Parameter, value: object) -> None:
    """Store the value of a global option. A value after the command overrides one before it."""
    given_here = context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    if context.parent is None or given_here:
        setattr(context.ensure_object(Options), option.name, value)


def _global(*names: str, **settings: Any) -> click.Option:  # noqa: ANN401  # click's
    return click.Option(names, callback=_store, expose_value=False, show_envvar=True, **settings)


GLOBAL = (
    _global(
        "-s",
        "--server",
        default=":10002",
        metavar="ADDRESS",
        envvar=["QUEUELET_SERVER_ADDRESS", "QCLI_SERVER"],
        help="The server's address: host:port, host, or :port on this machine.",
    ),
    _global(
        "-o",
        "--output",
        type=click.Choice(["json", "table"]),
        envvar="QUEUELET_OUTPUT",
        help="Output format. By default table on a terminal, otherwise json.",
    ),
    _global(
        "--tls-ca",
        type=FILE,
        envvar="QUEUELET_TLS_CA",
        help="Use TLS, and trust the certificate authority in this file.",
    ),
    _global("--tls-cert", type=FILE, envvar="QUEUELET_TLS_CERT", help="The client certificate, for mutual TLS."),
    _global("--tls-key", type=FILE, envvar="QUEUELET_TLS_KEY", help="The key of the client certificate."),
    _global("--token-file", type=FILE, envvar="QUEUELET_TOKEN_FILE", help="A file with the server's bearer token."),
    _global(
        "--insecure",
        is_flag=True,
        envvar="QUEUELET_INSECURE",
        help="Allow sending the token to another machine without TLS, where anyone on the network can read it.",
    ),
    _global(
        "--timeout",
        type=Seconds(),
        default=30.0,
        show_default="30s",
        metavar="DURATION",
        envvar="QUEUELET_TIMEOUT",
        help="The time limit of a call; 0 for none.",
    ),
)
"""The options that are allowed before and after a command."""


def name_variables(parameters: Iterable[click.Parameter], prefix: str) -> None:
    """Let each flag be set by an environment variable too, and show it in the help.

    Its name is the prefix and the flag: `QUEUELET_ADD` and `--request-id` make `QUEUELET_ADD_REQUEST_ID`. A flag that
    names a variable itself has both.

    Args:
        parameters: the parameters of a command.
        prefix: what the variables begin with.
    """
    for option in parameters:
        if isinstance(option, click.Option):
            flag = max(option.opts, key=len).lstrip("-")
            variable = f"{prefix}_{flag}".replace("-", "_").upper()
            option.envvar = [variable, *([str(option.envvar)] if option.envvar else [])]
            option.show_envvar = True


class Command(click.Command):
    """A command whose flags can be set by environment variables, and whose errors begin with `cannot` and a verb."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401  # click's
        verb: str = "",
        examples: str = "",
        under: str = "",
        **settings: Any,  # noqa: ANN401  # click's
    ) -> None:
        """Make a command.

        Args:
            args: click's.
            verb: what follows `cannot` in errors, by default the command's name.
            examples: command lines for the help, one per line.
            under: the name of the command's group, if it has one.
            settings: click's.
        """
        super().__init__(*args, **{**settings, "context_settings": SETTINGS})
        self.verb = verb or str(self.name)
        self.examples = dedent(examples).strip()
        name_variables(self.params, f"QUEUELET_{under}_{self.name}" if under else f"QUEUELET_{self.name}")

    def invoke(self, context: click.Context) -> object:
        """Run the command."""
        with refused(f"cannot {self.verb}"):
            return super().invoke(context)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write the examples into the help."""
        with formatter.section("Examples"):
            formatter.write(indent(self.examples, "  ") + "\n")


class ClientCommand(Command):
    """A command that calls a server, and therefore has the global options too."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        """Return its own parameters and the global ones."""
        return [*super().get_params(context), *GLOBAL]

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's
        """Run the command. Refuses text that is not valid UTF-8 first, so that the error names the parameter."""
        for parameter in self.get_params(ctx):
            # Not the payload, because it is sent as the bytes that were typed.
            if parameter.name != "payload":
                _check_encodable(ctx, parameter, ctx.params.get(parameter.name or ""))
        return super().invoke(ctx)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the help, its own first."""
        own = [option for option in super().get_params(context) if isinstance(option, click.Option)]
        for title, options in (("Options", own), ("Global options", GLOBAL)):
            with formatter.section(title):
                formatter.write_dl([record for option in options if (record := option.get_help_record(context))])


def _check_encodable(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Raise a usage error for a text, or for one among several, that is not valid UTF-8."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise click.BadParameter("not valid UTF-8.", context, parameter) from None
    elif isinstance(value, tuple) and parameter.name != "command":
        for each in value:
            _check_encodable(context, parameter, each)


class ClientGroup(ClientCommand, click.Group):
    """A group of commands, such as `dead`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; if there is none, raise an error that suggests similar ones."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands into the help, then the options."""
        self.format_commands(context, formatter)
        super().format_options(context, formatter)


class TagType(click.ParamType[Tag]):
    """A tag on the command line: `key=value`. The value may contain `=`."""

    name = "key=value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Tag:
        """Return the tag."""
        if isinstance(value, Tag):
            return value
        key, separator, text = str(value).partition("=")
        if not separator:
            self.fail(f"{value!r} is not a tag; write key=value", param, ctx)
        return Tag(key, text)


queue_argument = click.argument("queue", help="The ID or name of a queue.")

selector_option = click.option(
    "-l",
    "--selector",
    default="",
    show_default=False,
    metavar="SELECTOR",
    help="Select by tags, in the syntax of kubectl: team=a,tier!=b,zone in (x,y),!old.",
)

tag_option = click.option(
    "-t", "--tag", "tags", type=TagType(), multiple=True, metavar="KEY=VALUE", help="A tag; repeatable."
)

lease_option = click.option(
    "--lease",
    type=Seconds(1, MAX_LEASE_SECONDS),
    metavar="DURATION",
    help="The duration of a lease. By default the queue's.",
)

consumer_option = click.option(
    "--consumer",
    default=socket.gethostname,
    show_default="the name of this machine",
    metavar="NAME",
    help="Name of this consumer in the delivery history of failed messages.",
)

id_option = click.option("--id", "ids", multiple=True, metavar="UUID", help="The message with this ID; repeatable.")

all_option = click.option("--all", "everything", is_flag=True, help="All messages that are in the queue now.")

dry_run_option = click.option("--dry-run", is_flag=True, help="Only count the messages.")

request_id_option = click.option(
    "--request-id",
    default="",
    show_default=False,
    metavar="ID",
    help="Your own ID for this call, such as a UUID. A retry with the same ID within a minute gets the same messages.",
)

http_hosts_option = click.option(
    "--http-hosts",
    multiple=True,
    metavar="NAME",
    help="A name allowed as the Host of HTTP requests, in addition to IP addresses and local names; repeatable. "
    "In the environment variable, separate names with spaces.",
)


cors_option = click.option(
    "--cors",
    multiple=True,
    metavar="ORIGIN",
    help="Allow pages of this origin to use the REST API, such as https://admin.example.com; repeatable. "
    "In the environment variable, separate origins with spaces.",
)


def check_choice(context: click.Context, ids: object, selector: str, *, everything: bool) -> None:
    """Refuse a call unless exactly one of the options that choose messages is given."""
    if bool(ids) + bool(selector) + everything != 1:
        raise click.UsageError("Give exactly one of --id, --selector and --all.", context)


def delivery_options(function: _Function) -> _Function:
    """Add the options with a queue's delivery settings to a command."""
    for option in (
        click.option(
            "--message-ttl-seconds",
            type=WholeSeconds(),
            help="Time to live of messages: how long one may wait before it becomes dead.",
        ),
        click.option(
            "--max-deliveries", type=int, help="How many times a message is delivered before it becomes dead."
        ),
        click.option(
            "--lease-seconds",
            type=WholeSeconds(),
            help="How long a consumer holds a message before it is redelivered to another one.",
        ),
    ):
        function = option(function)
    return function
