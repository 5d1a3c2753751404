"""The switch's directory: writes mailboxes into it, and checks that the switch has them."""
