"""Work in a fork of this process, so that what it patches, keeps or starts is gone with it."""

import os
import pickle
import traceback


def forked(work, *arguments):
    """What ``work`` answers there; what it raises is raised here, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = True, work(*arguments)
        except BaseException:
            answer = False, traceback.format_exc()
        with os.fdopen(writer, "wb") as out:
            pickle.dump(answer, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as source:
        content = source.read()
    os.waitpid(child, 0)
    good, answer = pickle.loads(content)
    assert good, answer
    return answer
