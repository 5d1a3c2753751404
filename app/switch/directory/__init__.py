"""The switch's directory: how it learns of mailboxes, and the question whether it did."""
