"""The commands of `edge-agent`, one a file: add() gives its command line, the rest does it.

Only here, and in cli.py, are arguments parsed, lines printed, signals caught. What takes long to import is imported inside
the commands, so that --help answers at once.
"""
