"""So that torchrun can start it: torchrun --nproc-per-node 2 -m trainer fit ..."""

import sys

from trainer.cli import main

if __name__ == "__main__":
    sys.exit(main())
