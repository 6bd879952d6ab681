"""Benchmarks: measured beside peers, in one process and interleaved, never from memory."""
