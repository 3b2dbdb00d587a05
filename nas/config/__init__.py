"""Configuration of a search: bindings and ``fit`` arguments, validated before any work starts.

The package also prepares the data of a search or finds it in the store. Before a run is resumed,
its recorded configuration is compared with the current one.
"""
