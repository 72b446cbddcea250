"""Minimal pairs: the ways in which the embedded world puts its own rules to the test."""
