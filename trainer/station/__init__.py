"""From good pictures to a station: what there is is tried, measured and the best is written."""
