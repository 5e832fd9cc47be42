"""The edge towards disk."""
