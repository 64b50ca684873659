"""Makes a version into ONNX files a device can run, and proves that they answer alike.

Importing this package loads nothing: torch, transformers and onnx are loaded in its modules.
"""
