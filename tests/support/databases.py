"""Databases of the test server."""


def another(dsn: str, database: str) -> str:
    """The DSN of another database on the same server."""
    return f"{dsn.rpartition('/')[0]}/{database}"
