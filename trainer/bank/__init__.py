"""A bank of patches of good parts, made from their pictures."""
