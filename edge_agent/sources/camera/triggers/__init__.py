"""What requests pictures of a camera, and software triggers on their way to it."""
