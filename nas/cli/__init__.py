"""The command ``cerebros-spark``: a search without a script.

The rooms:

- ``main``: the command, its exit codes, and errors without tracebacks.
- ``searching``: ``search`` and ``resume``.
- ``using``: ``report``, ``predict``, ``audit`` and ``export``.
- ``asked``: what was asked of a run, kept with it in the store; the search that it makes.
- ``keeping``: writes it there, when the search begins.
- ``options``: what the commands share.
- ``tables``: files → Spark DataFrames and back.
- ``encoding``: texts and classes → numbers and back.
- ``session``: a Spark session, the one that is there or one of our own.

Nothing heavy is imported before a command begins, so ``--help`` is quick.
"""
