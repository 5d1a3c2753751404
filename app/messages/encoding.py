"""Reads a switch database of encoding SQL_ASCII, which checks no text: what a caller sent may be no UTF-8 at all."""

from app.database.pool import Connection


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decode(raw: bytes) -> str:
    return bytes(raw).decode("utf-8", "surrogateescape")


async def prepare_switch_connection(connection: Connection) -> None:
    """For each new connection of the switch's pool: bytes that are no UTF-8 come as lone surrogates, and go back as they were."""
    if connection.get_settings().server_encoding == "SQL_ASCII":
        for name in ("text", "varchar"):
            await connection.set_type_codec(name, schema="pg_catalog", encoder=_encode, decoder=_decode, format="binary")
