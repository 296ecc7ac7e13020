"""The command line: `flashclaim COMMAND`.

Data goes to standard output, messages to standard error. Exit codes by class: 0 done, 1 a promise is broken or
the state says no, 2 wrong use or wrong input, 3 something needed is away for now, 130 interrupted.
"""

import sys
from importlib import import_module

import typer
from typer._click.exceptions import ClickException

from engine.errors import FlashclaimError, Invalid, Misconfigured, Unavailable

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Give benefits to members: exact, durable, fast. Begin with `flashclaim dev`; then `flashclaim rush --help`.",
)
_COMMANDS = (
    "dev", "serve", "token", "campaign", "drop", "gates", "draw", "claim", "organisation", "member", "rush", "instant",
    "bench", "audit", "rebuild", "schedule", "doctor", "keys", "backup",
)  # fmt: skip
for _command in _COMMANDS:
    import_module(f"cli.{_command}").register(app)


def main() -> None:
    """The console script."""
    try:
        sys.exit(app(standalone_mode=False, prog_name="flashclaim"))
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except FlashclaimError as error:
        from engine.runtime.telemetry import without_secrets

        print(f"flashclaim: {without_secrets(error.detail)}", file=sys.stderr)
        sys.exit(exit_code(error))
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:
        if not _is_away(error):
            raise
        from engine.runtime.telemetry import without_secrets

        print(f"flashclaim: a store cannot be reached, try again: {without_secrets(str(error))[:300]}", file=sys.stderr)
        sys.exit(3)


def _is_away(error: Exception) -> bool:
    """Whether an error comes from a store that is away; their libraries are not loaded for that question."""
    libraries = {"sqlalchemy", "redis", "asyncpg"}
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.partition(".")[0] in libraries


def exit_code(error: FlashclaimError) -> int:
    """The exit code of an error's class."""
    if isinstance(error, Invalid | Misconfigured):
        return 2
    return 3 if isinstance(error, Unavailable) else 1
