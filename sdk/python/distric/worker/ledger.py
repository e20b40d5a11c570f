"""Credits leased to groups, out of one budget of slots and prefetch. Pure: no sockets, no clock, no threads.

A credit is with a group's leader (granted), or in hand (a task, or a result whose credit was not renewed), or free. Granted and in hand
together never exceed the budget, unless a leader used credit that it did not have; then nothing is renewed until they do not.
What was granted lapses with its session.
Several coordinators may name one group: one that stood still does until it hears of its successor. The later term holds. `tests/test_worker.py` holds this under random reports.
"""


class _Share:
    """One group's part of the budget."""

    __slots__ = ("session", "term", "granted", "asked", "in_hand", "ready", "declined")

    def __init__(self, session, term, in_hand):
        self.session = session
        self.term = term  # of the leader that answers there; 0 when it was not said
        self.granted = 0  # with the leader
        self.asked = 0  # of those: asked back, no answer yet
        self.in_hand = in_hand  # tasks
        self.ready = 0  # tasks that the leader reported to wait without a worker
        self.declined = False  # it gave credit back unasked, and has reported no work since

    @property
    def size(self):
        return self.granted + self.in_hand

    @property
    def starves(self):
        return self.ready > 0 and self.granted == 0

    @property
    def askable(self):
        return self.granted - self.asked


class Ledger:
    """See the module. `settle` says what to tell whom; call it after every change."""

    def __init__(self, budget):
        self.budget = budget
        self.in_hand = 0
        self.draining = False
        self._groups = {}
        self._terms = {}  # the latest term heard of, by group
        self._stranded = {}  # tasks in hand of groups that have no session now
        self._turn = 0

    @property
    def granted(self):
        """Credits that are with leaders."""
        return sum(share.granted for share in self._groups.values())

    def session_of(self, group):
        """The session that answers for a group, or None."""
        share = self._groups.get(group)
        return None if share is None else share.session

    def attach(self, session, groups, terms=()):
        """The leaders of exactly these groups, each with its term (0 or none: not said), answer on this session, as it says.

        Returns the groups whose credit has lapsed by it."""
        terms = {group: terms[at] if at < len(terms) else 0 for at, group in enumerate(groups)}
        lapsed = [group for group, share in self._groups.items() if share.session == session and group not in groups]
        for group in lapsed:
            self._strand(group)
        for group, term in sorted(terms.items()):
            share, latest = self._groups.get(group), self._terms.get(group, 0)
            if share is not None and (share.session, share.term) == (session, term):
                continue
            if term and term < latest:
                continue  # of a leader that has a successor
            self._terms[group] = max(term, latest)
            self._strand(group)
            self._groups[group] = _Share(session, term, self._stranded.pop(group, 0))
            lapsed.append(group)
        return lapsed

    def detach(self, session):
        """The session is gone. Returns the groups that it answered for."""
        return self.attach(session, [])

    def _strand(self, group):
        share = self._groups.pop(group, None)
        if share is not None and share.in_hand:
            self._stranded[group] = self._stranded.get(group, 0) + share.in_hand

    def task_came(self, group):
        """A task came: its credit is in hand now."""
        self.in_hand += 1
        share = self._groups.get(group)
        if share is None:
            self._stranded[group] = self._stranded.get(group, 0) + 1
            return
        share.granted = max(share.granted - 1, 0)
        share.asked = min(share.asked, share.granted)
        share.ready = max(share.ready - 1, 0)
        share.in_hand += 1
        share.declined = False

    def task_left(self, group):
        """A task is none any more; its credit stays in hand until `renewed` or `settled`."""
        share = self._groups.get(group)
        if share is not None:
            share.in_hand = max(share.in_hand - 1, 0)
        elif group in self._stranded:
            self._stranded[group] -= 1
            if not self._stranded[group]:
                del self._stranded[group]

    def renews(self, group):
        """Whether a result of this group should leave its credit with the leader."""
        own = self._groups.get(group)
        if own is None or self.draining or self.granted + self.in_hand > self.budget:
            return False
        return not any(other.starves and other.size < own.size for other in self._groups.values())

    def renewed(self, group):
        """The credit of a result went back to the leader with it."""
        share = self._groups.get(group)
        if share is not None:
            self.in_hand -= 1
            share.granted += 1

    def unrenewed(self):
        """The session ended before the leader confirmed a renewal: the credit is in hand again."""
        self.in_hand += 1

    def settled(self):
        """A result whose credit was in hand is confirmed: the credit is free."""
        self.in_hand -= 1

    def returned(self, group, amount):
        """A leader gave credit back. What it did not give, it had used already: one answer ends the question."""
        share = self._groups.get(group)
        if share is not None:
            share.declined = share.declined or share.asked == 0
            share.granted = max(share.granted - amount, 0)
            share.asked = 0

    def backlog(self, group, ready):
        """A leader reported how many tasks wait there."""
        share = self._groups.get(group)
        if share is not None:
            share.ready = ready
            share.declined = share.declined and ready == 0

    def forget_questions(self):
        """A leader that has nothing free may be silent: what it has not answered by now is asked anew."""
        for share in self._groups.values():
            share.asked = 0

    def settle(self):
        """{group: amount}: to grant where positive, to ask back where negative."""
        amounts = {}
        if self.draining:
            for group, share in sorted(self._groups.items()):
                if share.askable:
                    amounts[group] = -share.askable
                    share.asked = share.granted
            return amounts
        while self.granted + self.in_hand < self.budget:
            group = self._next_to_grant()
            if group is None:
                break
            self._turn = group
            self._groups[group].granted += 1
            amounts[group] = amounts.get(group, 0) + 1
        while (group := self._next_to_ask()) is not None:
            self._groups[group].asked += 1
            amounts[group] = amounts.get(group, 0) - 1
        return amounts

    def _next_to_grant(self):
        """The smallest share among those with more work than credit; else the smallest below an even part."""
        hungry = [group for group, share in self._groups.items() if share.ready > share.granted]
        if not hungry and self._groups:
            even = -(-self.budget // len(self._groups))
            hungry = [group for group, share in self._groups.items() if not share.declined and share.size < even]
        # Equal shares take turns.
        return min(hungry, key=lambda group: (self._groups[group].size, (group - self._turn - 1) & 0xFFFFFFFF), default=None)

    def _next_to_ask(self):
        """The group to ask one credit back from for a starving one: an idle group, the largest first; else one that is larger by two."""
        starving = [share for share in self._groups.values() if share.starves]
        if not starving or sum(share.asked for share in self._groups.values()) >= sum(min(one.ready, self.budget) for one in starving):
            return None
        smallest = min(share.size for share in starving)
        donors = sorted(group for group, share in self._groups.items() if share.askable)
        for fits in (lambda share: share.ready == 0, lambda share: share.size - share.asked > smallest + 1):
            fitting = [group for group in donors if fits(self._groups[group])]
            if fitting:
                return max(fitting, key=lambda group: self._groups[group].askable)
        return None
