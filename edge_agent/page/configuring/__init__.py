"""Views that change config.yaml: masks, and new stations."""
