"""How well registrations did: from records and their files to numbers."""
