"""What the benchmarks measure with: prompts, clocks, processes, limits of the machine. Knows no peer."""
