"""The `dnas` command: settings, data sets by name, run folders, checkpoints and reports.

`pip install 'dnas[app]'` installs what it needs. Names become objects here, nowhere below.
"""
