"""The commands of `trainer`, one a file: add() adds its command line, and `run` parses options, prints and returns the exit code.

Only here, and in cli.py, are arguments parsed and lines printed.
"""
