"""Where we stand: `python -m benchmarks` measures us beside what one would run instead."""
