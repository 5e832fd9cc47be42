"""A stand-in for PKB, with PKB's surprising habits; it shares no code with the gateway."""
