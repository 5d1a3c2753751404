"""Notifications: the mails about new messages, and the ledger of their delivery."""
