"""The Python face: ``run``, ``load`` and ``solve``, and what they answer. The command line stands on it."""
