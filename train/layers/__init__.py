"""Layers that the papers describe: attention, pooling, aggregation, enhancement."""
