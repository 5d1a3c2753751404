"""The ``voicemail`` command: one module a noun."""
