"""Readers and rules of the preference benchmarks, one file each."""
