"""Front ends in the graph: raw pictures and waveforms to what networks take."""
