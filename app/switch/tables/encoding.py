"""Reads a switch database of encoding SQL_ASCII, which checks no text: what a caller sent may be no UTF-8 at all."""

from app.database.pool import Connection

# A server of encoding SQL_ASCII cannot convert, but refuses to send what is not of the client's encoding; this one is none.
_AS_IT_IS = "SET client_encoding TO 'SQL_ASCII'"


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decode(raw: bytes) -> str:
    return bytes(raw).decode("utf-8", "surrogateescape")


def _checks_no_text(connection: Connection) -> bool:
    return bool(connection.get_settings().server_encoding == "SQL_ASCII")


async def prepare_switch_connection(connection: Connection) -> None:
    """For each new connection of the switch's pool: bytes that are no UTF-8 come as lone surrogates, and go back as they were."""
    if _checks_no_text(connection):
        for name in ("text", "varchar"):
            await connection.set_type_codec(name, schema="pg_catalog", encoder=_encode, decoder=_decode, format="binary")
        await connection.execute(_AS_IT_IS)


async def reset_switch_connection(connection: Connection) -> None:
    """For each connection that goes back to the switch's pool: as asyncpg does it, which forgets the encoding too."""
    query = connection.get_reset_query()
    if _checks_no_text(connection):
        query += f";\n{_AS_IT_IS}"
    await connection.execute(query)
