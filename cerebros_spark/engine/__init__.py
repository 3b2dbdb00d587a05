"""Engine, which runs trials on a backend and records every result.

It passes reports to the scheduler and the scheduler's assignments to the backend. Before either
acts on a result, the engine commits it to the journal. The module ``recovery`` rebuilds a run
from its journal; ``replay`` retrains one trial and compares every model state with the journal.
"""
