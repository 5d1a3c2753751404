"""PostgreSQL from a Python package or the system, run by the service itself."""
