"""What a newcomer waits for: the command to answer, a large report to be written."""

import subprocess
import sys
import tempfile
from pathlib import Path

from bilevelbench.asv import rows
from bilevelbench.report.page import write


class Start:
    """A process of its own for each sample."""

    version = "1"
    timeout = 120
    rounds = 2
    repeat = (2, 5, 10.0)

    def time_import(self) -> None:
        """`import bilevelbench`, without what it loads when it is used."""
        subprocess.run([sys.executable, "-c", "import bilevelbench"], check=True)

    def time_version(self) -> None:
        """`bilevelbench --version`."""
        subprocess.run([sys.executable, "-m", "bilevelbench", "--version"], check=True, stdout=subprocess.DEVNULL)


class Report:
    """From a folder of results to a page. A million rows: `python -m bilevelbench.asv.rows 1000000 FOLDER`."""

    params = ([20_000],)
    param_names = ("rows",)
    version = "1"
    timeout = 300
    rounds = 1
    repeat = (1, 3, 20.0)

    def setup(self, count: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        rows.write(Path(self.folder.name), count)

    def teardown(self, count: int) -> None:
        self.folder.cleanup()

    def time_report(self, count: int) -> None:
        write(Path(self.folder.name), Path(self.folder.name) / "report")
