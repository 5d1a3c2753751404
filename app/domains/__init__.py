"""The domains that this installation serves, as rows: what a domain's mailboxes and mails have in common."""
