"""Notifications: the mails about new messages, and the ledger of what became of them."""
