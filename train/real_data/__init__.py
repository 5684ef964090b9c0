"""Recipes whose result is a figure on real data; `RESULTS.md` holds them."""
