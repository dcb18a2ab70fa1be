"""What all commands share: the global options, and how flags become environment variables."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from queuelet.cli.failures import refused
from queuelet.tags import Tag

SETTINGS: dict[str, Any] = {"show_default": True, "max_content_width": 120, "help_option_names": ["-h", "--help"]}
"""How every command reads its arguments and shows its help."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""An option that names a file to read."""


_Function = TypeVar("_Function", bound=Callable[..., Any])


LARGEST_TOKEN = 2**64 - 1

YEAR = 365 * 86_400
"""In seconds: as long as anybody would wait."""

LONGEST = 10 * YEAR
"""In seconds: the longest delay or time to live that a server takes."""


class Seconds(click.FloatRange):
    """A duration in seconds: a plain number, or numbers with units, as 250ms, 5m or 1h30m."""

    name = "duration"

    def __init__(self, least: float = 0, most: float = LONGEST, *, above: bool = False) -> None:
        """Take the bounds, and whether it must be above the lower one."""
        super().__init__(min=least, max=most, min_open=above)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds."""
        seconds = duration(str(value))
        if seconds is None:
            self.fail(f"{value!r} is not a duration: write seconds, or numbers with units, as {_EXAMPLES}.", param, ctx)
        return float(super().convert(seconds, param, ctx))


class WholeSeconds(click.ParamType[int]):
    """A duration of whole seconds. The server knows its bounds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in seconds."""
        seconds = duration(str(value))
        if seconds is None or not seconds.is_integer():
            self.fail(f"{value!r} is not a duration of whole seconds: write 90, 5m or 1h30m.", param, ctx)
        return int(seconds)


_EXAMPLES = "250ms, 5m or 1h30m"

_UNIT_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

_PART = r"(\d+(?:\.\d+)?)(ms|[dhms])"


def duration(text: str) -> float | None:
    """Return a duration in seconds, None for what is none: every comparison with `nan` is false."""
    if re.fullmatch(f"(?:{_PART})+", text, re.ASCII):
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in re.findall(_PART, text))
    try:
        seconds = float(text)
    except ValueError:
        return None
    return None if isnan(seconds) else seconds


class WholeNumber(click.IntRange):
    """A number without a fraction, within bounds. click's own calls itself an integer range."""

    name = "whole number"


class Token(click.ParamType[int]):
    """The token of a lease."""

    name = "token"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it."""
        text = str(value)
        # Thousands of digits are no number to Python.
        is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST_TOKEN))
        if not is_number or int(text) > LARGEST_TOKEN:
            self.fail(f"{value!r} is not a token: it is the number that `queuelet receive` prints", param, ctx)
        return int(text)


@dataclass(kw_only=True, slots=True)
class Options:
    """The global options, as given before or after the command."""

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
        """Whether to print JSON: when told to, or when nobody reads along."""
        if self.output:
            return self.output == "json"
        return not sys.stdout.isatty()


def _keep(context: click.Context, option: click.Parameter, value: object) -> None:
    """Take the value of a global option: what stands after the command wins over what stands before it."""
    given_here = context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    if context.parent is None or given_here:
        setattr(context.ensure_object(Options), option.name, value)


def _global(*names: str, **settings: Any) -> click.Option:  # noqa: ANN401  # click's
    return click.Option(names, callback=_keep, expose_value=False, show_envvar=True, **settings)


GLOBAL = (
    _global(
        "-s",
        "--server",
        default=":10002",
        metavar="ADDRESS",
        envvar=["QUEUELET_SERVER_ADDRESS", "QCLI_SERVER"],
        help="The server, as host:port, host, or :port of this machine.",
    ),
    _global(
        "-o",
        "--output",
        type=click.Choice(["json", "table"]),
        envvar="QUEUELET_OUTPUT",
        help="How to print. By default a table on a terminal, and JSON everywhere else.",
    ),
    _global("--tls-ca", type=FILE, envvar="QUEUELET_TLS_CA", help="Speak TLS, and trust the authority in this file."),
    _global("--tls-cert", type=FILE, envvar="QUEUELET_TLS_CERT", help="Your certificate, for mutual TLS."),
    _global("--tls-key", type=FILE, envvar="QUEUELET_TLS_KEY", help="The key of your certificate."),
    _global("--token-file", type=FILE, envvar="QUEUELET_TOKEN_FILE", help="A file with the server's bearer token."),
    _global(
        "--insecure",
        is_flag=True,
        envvar="QUEUELET_INSECURE",
        help="Send the token without TLS, to another machine too: anyone on the network can read it.",
    ),
    _global(
        "--timeout",
        type=Seconds(),
        default=30.0,
        metavar="DURATION",
        envvar="QUEUELET_TIMEOUT",
        help="How long a call may take; 0 is for ever.",
    ),
)
"""Taken before and after a command."""


class Command(click.Command):
    """A command whose every flag is an environment variable, and whose failures say what could not be done."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401  # click's
        verb: str = "",
        examples: str = "",
        under: str = "",
        **settings: Any,  # noqa: ANN401  # click's
    ) -> None:
        """Take the verb for "cannot ...", by default the command's name, lines of examples, and what click takes.

        `under` is the name of the group that it belongs to, if it does.
        """
        super().__init__(*args, **{**settings, "context_settings": SETTINGS})
        self.verb = verb or str(self.name)
        self.under = under
        self.examples = dedent(examples).strip()
        for option in self.params:
            if isinstance(option, click.Option):
                option.envvar = [self._variable(option), *([str(option.envvar)] if option.envvar else [])]
                option.show_envvar = True

    def _variable(self, option: click.Option) -> str:
        flag = max(option.opts, key=len).lstrip("-")
        command = f"{self.under}_{self.name}" if self.under else self.name
        return f"QUEUELET_{command}_{flag}".replace("-", "_").upper()

    def invoke(self, context: click.Context) -> object:
        """Run the command."""
        with refused(f"cannot {self.verb}"):
            return super().invoke(context)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Write the examples into the help."""
        with formatter.section("Examples"):
            formatter.write(indent(self.examples, "  ") + "\n")


class ClientCommand(Command):
    """A command that calls a server, and so takes the global options too."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        """Return its own parameters and the global ones."""
        return [*super().get_params(context), *GLOBAL]

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # click's
        """Refuse a text that cannot be sent, by its parameter's name, instead of failing on its way."""
        for parameter in self.get_params(ctx):
            # A payload is sent as the bytes that were typed.
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
            raise click.BadParameter("it is not valid UTF-8.", context, parameter) from None
    elif isinstance(value, tuple) and parameter.name != "command":
        for each in value:
            _check_encodable(context, parameter, each)


class ClientGroup(ClientCommand, click.Group):
    """Commands about one thing, under its name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that arguments ask for, or tell which ones are like it."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands into the help, then the options."""
        self.format_commands(context, formatter)
        super().format_options(context, formatter)


class TagType(click.ParamType[Tag]):
    """A tag on the command line: `key=value`, and the value may hold further `=`."""

    name = "key=value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Tag:
        """Return the tag."""
        if isinstance(value, Tag):
            return value
        key, separator, text = str(value).partition("=")
        if not separator:
            self.fail(f"{value!r} is not a tag: write key=value", param, ctx)
        return Tag(key, text)


queue_argument = click.argument("queue", help="A queue's id or name.")

selector_option = click.option(
    "-l",
    "--selector",
    default="",
    show_default=False,
    metavar="SELECTOR",
    help="Only those whose tags match, as kubectl reads it: team=a,tier!=b,zone in (x,y),!old.",
)

tag_option = click.option(
    "-t", "--tag", "tags", type=TagType(), multiple=True, metavar="KEY=VALUE", help="A tag; may be given again."
)

LONGEST_LEASE = 12 * 3600
"""In seconds: what a server takes."""

lease_option = click.option(
    "--lease",
    type=Seconds(1, LONGEST_LEASE),
    metavar="DURATION",
    help="How long a lease lasts. By default as the queue says.",
)

consumer_option = click.option(
    "--consumer",
    default=socket.gethostname,
    show_default="the name of this machine",
    metavar="NAME",
    help="What to call yourself in the history of messages that fail.",
)

id_option = click.option(
    "--id", "ids", multiple=True, metavar="UUID", help="The message of this id; may be given again."
)

all_option = click.option("--all", "everything", is_flag=True, help="Every message that is there now.")


request_id_option = click.option(
    "--request-id",
    default="",
    show_default=False,
    metavar="ID",
    help="An id of your own for this call, a UUID for one: repeated within a minute it gets the same messages.",
)

http_hosts_option = click.option(
    "--http-hosts",
    multiple=True,
    metavar="NAME",
    help="A name that HTTP requests may have as their Host, as if it were an IP address; may be given again. "
    "In the environment, divided by spaces.",
)


def check_choice(context: click.Context, ids: object, selector: str, *, everything: bool) -> None:
    """Refuse to guess which messages are meant."""
    if bool(ids) + bool(selector) + everything != 1:
        raise click.UsageError("Give one of --id, --selector and --all.", context)


def delivery_options(function: _Function) -> _Function:
    """Give a command the options that say how a queue delivers its messages."""
    for option in (
        click.option(
            "--message-ttl-seconds", type=WholeSeconds(), help="How long a message may stay before it is dead."
        ),
        click.option("--max-deliveries", type=int, help="How often a message is given before it is dead."),
        click.option(
            "--lease-seconds", type=WholeSeconds(), help="How long a consumer has a message before another gets it."
        ),
    ):
        function = option(function)
    return function
