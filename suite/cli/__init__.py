"""The command line: `equipoise VERB`. Each file of this folder holds the verbs of one kind of work.

Exit codes: 0 done, 1 the work failed, 2 bad usage or bad configuration.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module, metadata
from typing import Any

import click

VERBS = {  # verb → the file it is in; files are imported only when one of their verbs is wanted
    "list": "listing",
    "check": "authoring",
    "new": "authoring",
    "prepare": "running",
    "plan": "running",
    "run": "running",
    "submit": "cluster",
    "status": "cluster",
    "cancel": "cluster",
    "resubmit": "cluster",
    "tune": "running",
    "sweep": "sweeping",
    "reproduce": "running",
    "compare": "reporting",
    "recommend": "advising",
    "report": "reporting",
    "claims": "reporting",
    "sync": "reporting",
    "pack": "submissions",
    "verify": "submissions",
    "merge": "submissions",
}

HELP = """Which load-balancing strategy should your Mixture-of-Experts model use?

Equipoise trains every strategy on the same dropless-MoE model under one fair protocol, and says how sure it is.

\b
First steps:
  equipoise list strategies          what there is
  equipoise plan quick               what a suite would cost
  equipoise run quick                train it here; run again to resume
  equipoise recommend                which strategy for what, from published boards
  equipoise report quick             leaderboard as Markdown, CSV, JSON and one HTML page
"""


class _Verbs(click.Group):
    """Imports a verb's file on demand, and turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = import_module(f"suite.cli.{VERBS[cmd_name]}")
        command = getattr(module, "list_" if cmd_name == "list" else cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from suite.words import nearest

        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise click.UsageError(f"no verb {args[0]!r}{nearest(args[0], VERBS)}; there are {', '.join(VERBS)}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except (click.exceptions.Exit, SystemExit):
            raise
        except Exception as error:
            if os.environ.get("EQUIPOISE_DEBUG"):
                raise
            from tasks import CorpusError

            # a ValueError is something the caller said that cannot be; anything else is the work that failed
            code = 2 if isinstance(error, ValueError) and not isinstance(error, CorpusError) else 1
            detail = " ".join(str(error).split()) or type(error).__name__
            kind = "" if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: "
            click.echo(f"equipoise: {kind}{detail}", err=True)
            sys.exit(code)


@click.group(cls=_Verbs, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(metadata.version("equipoise"), prog_name="equipoise")
def main() -> None:
    pass
