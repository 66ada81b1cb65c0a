"""The `equiran` command; `python -m sim` is the same."""

import gc
import sys


def main() -> None:
    """Entry point. Ctrl-C is exit code 130 and no traceback even while torch is still being imported.

    Nothing that is imported is garbage: collecting it takes a tenth of the start, and some of every later collection.
    """
    try:
        gc.disable()
        from sim.cli import main as command

        gc.freeze()
        gc.enable()
        command()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
