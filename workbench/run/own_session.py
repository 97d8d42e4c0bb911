"""Imported by the fork server of `workbench.run.process`, and by nothing else: gives it a session of its own.

Ctrl-C in a terminal, and SIGTERM to a group of processes, then reach only the process that starts the commands. It ends
them in order; if the fork server died first, they would be killed.
"""

import os

os.setsid()
