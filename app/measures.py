"""The numbers in ``/metrics`` that belong to no capability: this process, its connections and its job queue."""

from app.database.pool import Pool
from app.database.readers import Readers
from app.http.metrics import Measure, Numbers, Shared, TableGauges
from app.resources import Resources


def measures_of(resources: Resources, version: str) -> dict[str, Measure]:
    """Gauges of this copy of the service."""
    switch = resources.switch
    own: dict[str, Pool | Readers] = {"service": resources.pool, "messages": switch.pool, "lists": switch.readers}
    pools = own if resources.readers is switch.readers else {**own, "readers": resources.readers}

    return {
        "voicemail_info": Measure("Always 1; the label is the version of this copy", lambda: {version: 1.0}, "version"),
        "voicemail_switch_up": Measure(
            "Whether this copy is connected to the switch's Event Socket", lambda: switch.socket.connected
        ),
        "voicemail_leader": Measure("Whether this copy is the one that leads", lambda: resources.leader.leading),
        "voicemail_jobs_taken": Measure("Whether this copy takes jobs", lambda: resources.jobs.connected),
        "voicemail_database_connections_used": Measure(
            "Database connections that are in use, by pool", lambda: {name: pool.used for name, pool in pools.items()}, "pool"
        ),
        "voicemail_database_connections_most": Measure(
            "Database connections that a pool may have", lambda: {name: pool.most for name, pool in pools.items()}, "pool"
        ),
    }


def job_gauges(resources: Resources) -> TableGauges:
    """The job queue by kind of job. Finished jobs leave the table, so a look at all of it is short."""
    count, overdue = "voicemail_jobs_waiting", "voicemail_jobs_overdue_seconds"

    async def read() -> dict[str, Numbers]:
        async with resources.pool.acquire() as connection:
            found = await resources.jobs.depths(connection)
        return {
            count: {name: depth.jobs for name, depth in found.items()},
            overdue: {name: depth.overdue for name, depth in found.items()},
        }

    gauges = {
        count: Shared("Jobs that wait or run", "entrypoint"),
        overdue: Shared("Seconds since the first waiting job should have been taken; 0 if none is late", "entrypoint"),
    }
    return TableGauges(gauges, read)
