"""Floor 3, assembly: the only place that knows every edge. It opens them, joins them to the story, and closes them."""
