"""What tools/benchmark.py measures: a module per section, each with ``measure(settings)``."""
