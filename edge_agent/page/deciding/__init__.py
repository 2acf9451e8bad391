"""What an engineer decides of a station: its threshold, and what it learns from corrections; and the log of all changes."""
