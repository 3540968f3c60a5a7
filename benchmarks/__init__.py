"""Measurements of the project: run them from the root of the repository, as `python -m benchmarks.NAME`.

A package, so that its modules can import one another and tests can import them; it is not installed.
"""
