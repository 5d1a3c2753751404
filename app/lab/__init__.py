"""A lab with a real FreeSWITCH on the shipped configuration: `make lab`, and the demonstration that ends `docker compose up`."""
