"""Measuring on this host: devices, timers, the measuring child. Knows no storage."""
