"""``make demo``: the main job, shown on real programs."""
