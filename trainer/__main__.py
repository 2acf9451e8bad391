"""The trainer as a module, for torchrun: torchrun --nproc-per-node 2 -m trainer fit ..."""

import atexit
import os
import sys

from trainer.cli import main


def end_process(code: int) -> None:
    """End this process, under torchrun without shutting the interpreter down.

    During the shutdown a remaining thread of torch, such as gloo's, sometimes aborts the process although its checkpoint is
    written, and torchrun then reports the whole run as failed.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    end_process(main())
