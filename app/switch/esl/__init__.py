"""The Event Socket: greenswitch in a thread of its own, asyncio in front."""
