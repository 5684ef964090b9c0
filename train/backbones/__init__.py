"""Picture networks, one family a file, with their published layouts and parameter names."""
