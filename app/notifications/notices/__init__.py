"""Mails without a recording: digests of messages beyond the limit, and words to addresses that a mailbox has no more."""
