"""Locks a mailbox after too many wrong PINs, for a time, on the switch and for good against guessing over many calls."""
