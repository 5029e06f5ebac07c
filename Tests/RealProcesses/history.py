#!/usr/bin/env python3
"""Judges a history of reads and writes of registers, made by several clients at once.

Linearizability is searched for as by Wing and Gong with Lowe's refinement ("Testing for linearizability", 2017): the history is
walked in the order of time, and all states are kept that some order of the operations under way can have led to. A register holds
the last value written, every value is written once, and each key is judged alone: linearizability is local. A write of which
nobody knows whether it happened may take effect at any time after its beginning, or never.

Run as a program, it judges histories whose verdict is known.
"""

import sys

# Orders of concurrent operations that are kept at most; more say that the history cannot be judged.
STATES_MAX = 200_000
NEVER = float("inf")


class Undecided(Exception):
    """There were too many orders to look at."""


class Operation:
    """A read or write of one key, from the moment it was asked to the moment it was answered."""

    __slots__ = ("key", "value", "began", "ended", "is_write", "is_known", "who")

    def __init__(self, key, value, began, ended, is_write, is_known=True, who=""):
        self.key, self.value, self.began, self.ended = key, value, began, ended
        self.is_write, self.is_known, self.who = is_write, is_known, who

    def __str__(self):
        what = "wrote" if self.is_write else "read"
        return f"{self.who or 'somebody'} {what} {self.value} [{self.began:.3f} s, {self.ended:.3f} s]"


def problems(operations, initial=None):
    """What is wrong with a history, one sentence for each key that no order explains."""
    by_key = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    found = []
    for key in sorted(by_key):
        try:
            culprit = first_inexplicable(by_key[key], initial)
        except Undecided:
            found.append(f"{key}: more than {STATES_MAX} orders of its operations; the history was not judged")
            continue
        if culprit:
            found.append(f"{key} is not linearizable: no order explains that {culprit}")
    return found


def first_inexplicable(operations, initial=None):
    """The first operation whose answer no order explains; None when the history is linearizable."""
    relevant = bounded(operations)
    events = [(o.began, 0, i) for i, o in enumerate(relevant)] + [(o.ended, 1, i) for i, o in enumerate(relevant) if o.ended < NEVER]
    # What ended at the moment when another began counts as concurrent.
    events.sort()
    pending = set()
    states = {(initial, frozenset())}
    for _, is_end, index in events:
        if not is_end:
            pending.add(index)
            continue
        states = after(index, states, pending, relevant)
        pending.discard(index)
        if not states:
            return relevant[index]
    return None


def bounded(operations):
    """Without what cannot matter: an unknown write that nobody saw may never have happened; one that was seen happened before
    the first answer that shows it."""
    seen = {}
    for operation in operations:
        if not operation.is_write:
            seen[operation.value] = min(seen.get(operation.value, NEVER), operation.ended)
    kept = []
    for operation in operations:
        if operation.is_write and not operation.is_known:
            if operation.value not in seen:
                continue
            operation = Operation(operation.key, operation.value, operation.began, max(operation.began, seen[operation.value]), True,
                                  True, operation.who)
        kept.append(operation)
    return kept


def after(index, states, pending, operations):
    """The states in which the operation has taken effect, of all that can follow on `states`."""
    reached, todo, looked_at = set(), list(states), set(states)
    while todo:
        value, done = todo.pop()
        if index in done:
            reached.add((value, done - {index}))
            continue
        for other in pending:
            if other in done:
                continue
            operation = operations[other]
            if operation.is_write:
                following = (operation.value, done | {other})
            elif operation.value == value:
                following = (value, done | {other})
            else:
                continue
            if following not in looked_at:
                if len(looked_at) >= STATES_MAX:
                    raise Undecided
                looked_at.add(following)
                todo.append(following)
    return reached


def prefix_problems(views, writes):
    """Each view (who, when, {key: (version, value)}) has to be a prefix of the log: for its newest version, every other key is as
    the writes with known versions left it, and nobody's views go back."""
    found, newest = [], {}
    versions = {}
    for key, version in writes:
        versions.setdefault(key, set()).add(version)
    for _, _, view in views:
        for key, (version, _) in view.items():
            versions.setdefault(key, set()).add(version)
    ordered = {key: sorted(known) for key, known in versions.items()}
    for who, when, view in views:
        head = max((version for version, _ in view.values()), default=0)
        for key, known in ordered.items():
            expected = last_at_most(known, head)
            if view.get(key, (0, None))[0] != expected:
                found.append(f"{who} showed {key} at version {view.get(key, (0, None))[0]} beside version {head} of another key; it is {expected} there")
            before = newest.get((who, key), 0)
            if view.get(key, (0, None))[0] < before:
                found.append(f"{who} went back: {key} was at {before}, then at {view.get(key, (0, None))[0]}")
            newest[who, key] = max(before, view.get(key, (0, None))[0])
    return found


def last_at_most(ordered, limit):
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] <= limit:
            low = middle + 1
        else:
            high = middle
    return ordered[low - 1] if low else 0


# Histories whose verdict is known.


def write(value, began, ended, is_known=True):
    return Operation("k", value, began, ended, True, is_known)


def read(value, began, ended):
    return Operation("k", value, began, ended, False)


KNOWN = [
    ("one after another", True, [write("1", 0, 1), read("1", 2, 3), write("2", 4, 5), read("2", 6, 7)]),
    ("a stale read", False, [write("1", 0, 1), write("2", 2, 3), read("1", 4, 5)]),
    ("a read beside a write may see either", True, [write("1", 0, 1), write("2", 2, 9), read("1", 3, 4), read("2", 5, 6)]),
    ("once seen, a write stays", False, [write("1", 0, 1), write("2", 2, 9), read("2", 3, 4), read("1", 5, 6)]),
    ("an unknown write may never happen", True, [write("1", 0, 1), write("2", 2, 3, False), read("1", 4, 5)]),
    ("an unknown write may happen late", True, [write("1", 0, 1), write("2", 2, 3, False), read("1", 4, 5), read("2", 6, 7)]),
    ("an unknown write happens once", False,
     [write("1", 0, 1, False), read("1", 2, 3), write("2", 4, 5), read("2", 6, 7), read("1", 8, 9)]),
    ("a value that nobody wrote", False, [write("1", 0, 1), read("9", 2, 3)]),
    ("a read before its write began", False, [read("1", 0, 1), write("1", 2, 3)]),
    ("a lost write", False, [write("1", 0, 1), read(None, 2, 3)]),
    ("nothing was written yet", True, [read(None, 0, 1), write("1", 2, 3)]),
    ("two writes at once, in one order for all", False,
     [write("1", 0, 5), write("2", 0, 5), read("1", 6, 7), read("2", 8, 9)]),
    ("two writes at once, either order", True, [write("1", 0, 5), write("2", 0, 5), read("2", 1, 2), read("1", 6, 7)]),
]


def check_known_histories():
    for name, expected, operations in KNOWN:
        if (first_inexplicable(operations) is None) != expected:
            raise AssertionError(f"the checker is wrong about: {name}")
    good = [("n1", 0, {"a": (1, "x"), "b": (2, "y")}), ("n1", 1, {"a": (3, "z"), "b": (2, "y")})]
    assert not prefix_problems(good, [("a", 1), ("b", 2), ("a", 3)])
    assert prefix_problems([("n1", 0, {"a": (3, "z"), "b": (0, None)})], [("a", 1), ("b", 2), ("a", 3)])
    assert prefix_problems([("n1", 0, {"a": (3, "z")}), ("n1", 1, {"a": (1, "x")})], [("a", 1), ("a", 3)])


if __name__ == "__main__":
    check_known_histories()
    print(f"{len(KNOWN)} histories judged rightly")
    sys.exit(0)
