"""Soaks: long runs of the real agent under one fault each. They print counts, write them as JSON, and fail if one is wrong."""
