"""The forms in which people write records. `table.py` lists them; each reads a row as an `Example`."""
