"""Configuration: schema, composition from files and command line, help."""
