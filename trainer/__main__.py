"""So that torchrun can start it: torchrun --nproc-per-node 2 -m trainer fit ..."""

import atexit
import os
import sys

from trainer.cli import main


def leave(code: int) -> None:
    """End this process, under torchrun without taking the interpreter apart.

    A thread of gloo's may let go of a tensor just then, which aborts a process whose work is done, and torchrun would call
    all of it failed.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
