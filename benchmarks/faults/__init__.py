"""Soak tests: long runs of the real agent under one fault each. They print counts, write JSON, and fail if one is wrong."""
