"""What the switch should have of each mailbox, and whether it has it."""
