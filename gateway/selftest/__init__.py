"""Attacks as data, and the means to send them to a gateway and judge what it says. Nothing here needs the gateway."""
