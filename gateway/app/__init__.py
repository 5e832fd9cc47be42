"""Floor 3, assembly: the only place that knows every edge. It opens them, joins them to the story, and closes them."""

from gateway.app.assembly import Gateway, running, serve

__all__ = ["Gateway", "running", "serve"]
