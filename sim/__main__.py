"""The `equiran` command; `python -m sim` is the same."""

import sys


def main() -> None:
    """Entry point. Ctrl-C is exit code 130 and no traceback even while torch is still being imported."""
    try:
        from sim.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
