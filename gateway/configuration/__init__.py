"""TOML in, values out: the settings of the process, the grants, their schemas, and the hot reload of grants."""
