"""Reader studies: what people see in synthetic volumes, and how sure that is.

`build` makes a study folder, `server` asks the readers, `analysis` says what they saw.
"""
