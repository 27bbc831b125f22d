"""Benchmarks: each module is one, run by `make bench BENCH=NAME [QUICK=1]`; results go to tests/bench/results."""
