"""Floor 1: the story of a request, from the claim to the answer. It alone decides the order of things."""
