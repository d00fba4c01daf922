"""A package that trains: `python -m pkg` in the folder above. Its modules find one another by relative imports."""
