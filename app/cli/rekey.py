"""``voicemail rekey``."""

import sys
import time

import typer

from app.cli.running import run, settings

_EVERY = 1.0  # seconds between two lines of progress


def rekey(context: typer.Context) -> int:
    """Encrypt all PINs anew with the first key of VOICEMAIL_SECRET_KEY; the service may run meanwhile."""
    from app.mailboxes.offline import open_mailboxes_offline

    async def work() -> int:
        async with open_mailboxes_offline(settings(context)) as admin:
            done = await admin.rekeying.run(admin.grant, _Progress().told)
        print(f"{done.resealed} PINs are encrypted anew with the first key")
        for key_id, pins in done.missing.items():
            print(f"{pins} PINs need the key {key_id}, which is not in VOICEMAIL_SECRET_KEY: add it, or set these PINs anew")
        if done.older:
            why = "they are damaged, or a service was not restarted with the new key"
            print(f"{done.older} PINs are still an older key's: {why}")
        if done.digests:
            print(f"{done.digests} mailboxes still need an older key for voicemail_prefs: {done.detail}")
        if done.complete:
            print("everything is encrypted with the first key; the older ones are not needed any more")
        else:
            print("keep the older keys, and run this again")
        return 0 if done.complete else 1

    return run(work())


class _Progress:
    """Tells how far it is, once a second."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def told(self, done: int, total: int) -> None:
        if time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            print(f"{done} of {total} PINs", file=sys.stderr, flush=True)
