"""Methods that need CLIP's own towers: raw outputs of blocks, a second stream of attention, causal prompts."""
