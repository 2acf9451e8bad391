"""The commands of `trainer`, one a file: add() gives its command line, the rest does it.

Only here, and in cli.py, are arguments parsed and lines printed.
"""
