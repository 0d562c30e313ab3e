"""Benchmarks: the project beside its peers on this machine (`python -m benchmarks --help`)."""
