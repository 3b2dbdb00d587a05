"""Configuration of a search: what the user bound and passed, checked before any work.

The package also prepares the data of a search or finds it in the store. Before a run is resumed,
its recorded configuration is compared with the current one.
"""
