"""Products of a plan: the micro-kernel and the walks over its tiles."""
