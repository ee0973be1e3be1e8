"""What tests, the demo and the benchmarks start and stop: PostgreSQL, certificates, agencies, clients.

Only Python's standard library, so that `make run` needs nothing but Debian's python3.
"""
