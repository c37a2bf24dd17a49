"""Benchmarks: not packaged, run by `make bench-NAME`."""
