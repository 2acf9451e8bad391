"""The exit codes; 2, usage, is argparse's own."""

OK, FAILED = 0, 1
REFUSED = 3  # `learn`: something stands against it
BAD_CONFIG = 78  # EX_CONFIG, at which systemd does not restart
INTERRUPTED = 130  # as shells say it of Ctrl-C
