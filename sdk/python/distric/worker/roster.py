"""Which coordinators there are, and which session is with whom. Pure: no sockets, no clock, no threads.

At most one session is with a node, whatever addresses lead there: to the node a second one would end the first.
"""

#: Most sessions of one worker; a cluster has far fewer coordinators.
SESSIONS_MAX = 64


class _Seat:
    __slots__ = ("address", "given", "node")

    def __init__(self, address, given):
        self.address = address
        self.given = given  # named by the worker's owner: tried for as long as the worker runs
        self.node = None  # the node that it is with now


class Roster:
    """See the module. `take_changes` gives what is to be done: ("open", session, address) and ("end", session)."""

    def __init__(self, addresses):
        self._seats, self._known, self._next, self._changes = {}, {}, 0, []
        for address in addresses:
            self._open(address, given=True)

    def take_changes(self):
        """What is to be done since this was last asked."""
        changes, self._changes = self._changes, []
        return changes

    def on_reached(self, session, node):
        """A session has reached a node. Returns whether it may introduce the worker there: no other session is with it."""
        if session not in self._seats or any(seat.node == node for other, seat in self._seats.items() if other != session):
            return False
        self._seats[session].node = node
        return True

    def on_down(self, session):
        """A session lost its connection."""
        if session in self._seats:
            self._seats[session].node = None
        self._settle()

    def on_coordinators(self, coordinators):
        """A coordinator named all of them, {node: address}; one that names nobody knows nobody yet."""
        if coordinators and coordinators != self._known:
            self._known = dict(coordinators)
            self._settle()

    def _settle(self):
        addresses = set(self._known.values())
        for session, seat in list(self._seats.items()):
            if not seat.given and seat.node is None and seat.address not in addresses:
                del self._seats[session]
                self._changes.append(("end", session))
        for node, address in sorted(self._known.items()):
            if not any(seat.node == node or seat.address == address for seat in self._seats.values()):
                self._open(address, given=False)

    def _open(self, address, given):
        if len(self._seats) < SESSIONS_MAX:
            self._seats[self._next] = _Seat(address, given)
            self._changes.append(("open", self._next, address))
            self._next += 1
