"""Command line, data sets by name, reports and notebooks: everything that turns names into objects
of `dnas`."""
