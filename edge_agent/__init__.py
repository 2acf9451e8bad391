"""Industrial visual inspection that finds defects nobody has trained it on."""

__version__ = "0.1.0"
