"""The numbers that PROTOCOL.md names; a change of any is a new version of it."""

VERSION = "1.0"
"""Major.Minor. Records of different versions are never ranked together."""
RANKED = 5
"""Finished seeds that a row needs to be ranked."""
REFERENCE = "opd"
"""The METHOD that differences are taken to."""
