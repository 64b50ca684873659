"""Benchmarks of a real server on this machine: what a swap costs, what adapters cost.

Owns the load, the measuring and the results file. Must not know: vllm, torch (servers are child
processes), how anything inside the server works.
"""
