"""The domains that this installation serves, with the settings for their mailboxes and mails."""
