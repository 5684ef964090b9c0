"""Stands where NVIDIA's CUDA bindings would."""
