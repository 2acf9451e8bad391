"""The commands for what people say of inspections: `label` and `learn`."""
