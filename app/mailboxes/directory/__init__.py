"""The state that each mailbox should have on the switch, and whether the switch has it."""
