"""The benchmarks behind `rcodec bench`."""
