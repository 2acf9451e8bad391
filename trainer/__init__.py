"""The offline trainer: makes the models and prompt checkpoints that edge_agent inspects with. edge_agent never imports it."""
