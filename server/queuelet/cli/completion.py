"""The command `completion`: prints a completion script for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from queuelet.cli.options import Command
from queuelet.cli.output import write

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    verb="print the completion script",
    examples="""
    eval "$(queuelet completion bash)"                                     # in ~/.bashrc
    eval "$(queuelet completion zsh)"                                      # in ~/.zshrc
    queuelet completion fish > ~/.config/fish/completions/queuelet.fish
    """,
)
@click.argument("shell", type=click.Choice(SHELLS), help="Your shell.")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes the commands and options of queuelet in your shell."""
    root = context.find_root()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not supported.", context)
    write(kind(root.command, {}, "queuelet", "_QUEUELET_COMPLETE").source().encode() + b"\n")
