"""Facts that ship with the package: weights registry, schemas."""
