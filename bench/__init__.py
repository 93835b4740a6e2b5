"""``make bench``: what certexec costs, as ratios to what stands beside it in the same run."""
