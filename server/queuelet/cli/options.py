"""What all commands share: the global options, and how flags become environment variables."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import click
from click.core import ParameterSource

from queuelet.cli.failures import refused
from queuelet.tags import Tag

SETTINGS: dict[str, Any] = {"show_default": True, "max_content_width": 120, "help_option_names": ["-h", "--help"]}
"""How every command reads its arguments and shows its help."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""An option that names a file to read."""


class Seconds(click.FloatRange):
    """A number of seconds, 0 or more."""

    def __init__(self) -> None:
        """Take numbers from 0 on."""
        super().__init__(min=0)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it, or refuse what is no number: every comparison with `nan` is false."""
        seconds = float(super().convert(value, param, ctx))  # type: ignore[arg-type]  # the stubs narrow it
        if isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


@dataclass(kw_only=True, slots=True)
class Options:
    """The global options, as given before or after the command."""

    server: str = ""
    output: str | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None
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
        "--timeout",
        type=Seconds(),
        default=30.0,
        metavar="SECONDS",
        envvar="QUEUELET_TIMEOUT",
        help="How long a call may take; 0 is for ever.",
    ),
)
"""Taken before and after a command."""


class Command(click.Command):
    """A command whose every flag is an environment variable, and whose failures say what could not be done."""

    def __init__(self, *args: Any, verb: str = "", examples: str = "", **settings: Any) -> None:  # noqa: ANN401  # click's
        """Take the verb for "cannot ...", by default the command's name, lines of examples, and what click takes."""
        super().__init__(*args, **{**settings, "context_settings": SETTINGS})
        self.verb = verb or str(self.name)
        self.examples = dedent(examples).strip()
        for option in self.params:
            if isinstance(option, click.Option):
                option.envvar = [self._variable(option), *([str(option.envvar)] if option.envvar else [])]
                option.show_envvar = True

    def _variable(self, option: click.Option) -> str:
        flag = max(option.opts, key=len).lstrip("-")
        return f"QUEUELET_{self.name}_{flag}".replace("-", "_").upper()

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

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the help, its own first."""
        own = [option for option in super().get_params(context) if isinstance(option, click.Option)]
        for title, options in (("Options", own), ("Global options", GLOBAL)):
            with formatter.section(title):
                formatter.write_dl([record for option in options if (record := option.get_help_record(context))])


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
