"""What times the project: `dnas bench`."""
