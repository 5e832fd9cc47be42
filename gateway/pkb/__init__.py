"""The edge towards PKB."""
