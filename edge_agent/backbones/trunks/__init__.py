"""Trunks that timm publishes, whose features a bank of good parts compares; timm itself is not needed."""
