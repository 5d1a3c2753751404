"""PostgreSQL: connections, migrations, jobs and the embedded server."""
