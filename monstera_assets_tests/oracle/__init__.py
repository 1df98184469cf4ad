"""The framework's definitions, implemented a second time as plain loops over days.

These modules are an independent reading of the definitions, to compare the set-based engine with. They
are slow and share nothing with the package. Each function walks from the first day to the last, looks
only at facts dated up to that day and at its result for the day before, and evaluates the rules in the
framework's order. They do not read files, roll features up to products, or use tables.
"""
