"""Mailboxes: what the API manages and the switch's directory holds."""
