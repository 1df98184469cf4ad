"""The definitions of the framework, implemented a second time as plain loops over days.

These modules implement the definitions independently, so that tests can compare the set-based engine
with them. They are slow and share no code with the package. Each function loops over the days from the
first to the last. For each day, it evaluates the rules in the order of the framework, using only the
facts dated up to that day and its result for the day before. Except for `source`, which
decides which rows of a source enter bronze, the modules do not read files, roll features up to products
or use tables.
"""
