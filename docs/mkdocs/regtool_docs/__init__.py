"""What makes pages of the site from the program."""
