"""TOML in, values out."""
