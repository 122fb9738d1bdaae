"""A lock for work that is done one after the other, first come, first served."""

from collections import deque
from threading import Condition


class Turns:
    """`with turns:` waits until all who came before are done; a thread must not enter it twice."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._line: deque[object] = deque()

    def __enter__(self) -> None:
        me = object()
        with self._changed:
            self._line.append(me)
            try:
                self._changed.wait_for(lambda: self._line[0] is me)
            except BaseException:  # Ctrl-C: who waits no longer must not hold up the others
                self._leave(me)
                raise

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._leave(self._line[0])

    def _leave(self, who: object) -> None:
        self._line.remove(who)
        self._changed.notify_all()
