"""Exports for devices: the base model and its adapters as ONNX graphs that run without a server.

Importing this package loads nothing: `manifest` and `device` need the standard library and a
runtime alone, the exporter loads torch, transformers and onnx in its own modules.
"""
