"""So that torchrun can start it: torchrun --nproc-per-node 2 -m trainer fit ..."""

import atexit
import os
import sys

from trainer.cli import main


def leave(code: int) -> None:
    """End this process, under torchrun without taking the interpreter apart.

    A thread of torch's that is still there, as gloo's are, now and then aborts a process just then, with its checkpoint
    written, and torchrun calls all of it failed.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
