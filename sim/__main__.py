"""The `equiran` command; `python -m sim` is the same."""

import gc
import sys

from sim.allocator import nothing_collected


def main() -> None:
    """Entry point. Ctrl-C is exit code 130 and no traceback even while torch is still being imported.

    What is imported is not looked through for garbage later, either. Commands that compute import torch themselves.
    """
    try:
        try:
            with nothing_collected():
                if sys.argv[1:2] == ["watch"]:
                    from sim.live.command import main as command
                else:
                    from sim.cli import main as command
            gc.freeze()
            command()
        except ImportError as error:
            from sim.doctor.telling import without_packages

            sys.exit(without_packages(error, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
