"""`python -m benchmarks.static`: static files, beside nginx and other servers of files."""
