"""Registrations repeated from their records, and records compared."""
