"""Holds `engines.tensorrt` against the real Python bindings of TensorRT and CUDA, where there is no GPU.

The bindings come from the package index. What they would load of TensorRT is a stub library, so they can be looked at
but not used. Stubs for mypy are made from them at each run: they are NVIDIA's and are not kept here.
"""
