"""The problems that come with bilevelbench, one file each. Registration is by being in this folder."""

if not __name__.startswith("bilevelbench."):
    raise ImportError("import bilevelbench.problems, not problems: the folder is a sub-package of bilevelbench")
