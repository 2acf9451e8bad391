"""Methods that need a few good parts, measured on several draws of them."""
