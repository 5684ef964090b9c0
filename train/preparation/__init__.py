"""Clips made ready once: faces, flow, pose and sound in a cache."""
