"""Measurements of the project's budgets, and the mock model server that they stand on.

Why: throughput, durability and tokens per episode are promises; each is measured by a module here
that anybody can run, e.g. ``python -m benchmarks.mock_server --help``.
"""
