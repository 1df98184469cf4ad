"""The framework's definitions once more, as plain loops over days.

Nothing here is fast and nothing is shared with the package: these modules are the second,
independent reading of the definitions that the set-based engine is compared with. Each function
walks from the first day to the last, looks only at facts dated up to that day and at what it found
for the day before, and asks the rules in the order in which the framework lists them.

Left out on purpose: reading files, rolling features up to products, and anything about tables.
"""
