"""Learning from corrections: labels become patches of a bank, behind a gate, and there is a way back."""
