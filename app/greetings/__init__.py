"""Greetings: what callers of a mailbox hear before the beep, and its recorded name."""
