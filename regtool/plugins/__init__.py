"""The method contract: what a plugin says about itself, and how plugins are found and loaded."""
